//! What stands in a CA's, and that what is signed was linted.

use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use spiffe_bridge::authority::LeafRequest;
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{Serial, SpiffeId};
use spiffe_bridge::keys::{KeyId, KeyManager, KeyType, MemoryKeys, PublicKey, workload};
use spiffe_bridge::x509::root::{NameConstraints, Root, self_sign};
use spiffe_bridge::x509::{DnsNames, Draft, Leaf, Template, Validity, inspect, lint, random_serial};
use x509_parser::extensions::GeneralName;

use super::support::{self, NOW, assert_breaks, ca, domain, hostile, openssl_verify, parsed, request, uri};

#[tokio::test]
async fn pk_12_the_root_is_a_critical_ca_that_signs_leaves_only() {
    let ca = ca().await;
    let root = parsed(ca.root());
    let bc = root.basic_constraints().unwrap().unwrap();
    assert!(bc.critical && bc.value.ca);
    assert_eq!(bc.value.path_len_constraint, Some(0));
    assert!(root.key_usage().unwrap().unwrap().value.key_cert_sign(), "pathLen goes with keyCertSign");
}

#[tokio::test]
async fn pk_13_name_constraints_are_a_cas_critical_and_the_host_itself() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    for der in [ca.root(), &leaf.chain[0]] {
        assert!(parsed(der).name_constraints().unwrap().is_none(), "none unless asked for");
    }
    let keys = MemoryKeys::new();
    let id: KeyId = "root".parse().unwrap();
    keys.generate(&id, KeyType::EcP256).unwrap();
    let validity = Validity { not_before: NOW, not_after: NOW + Duration::from_secs(7200) };
    let name_constraints = NameConstraints::OwnTrustDomain;
    let root = Root { trust_domain: &domain(), validity, depth: 0, name_constraints };
    let root = self_sign(&root, &keys, &id).unwrap();
    let cert = parsed(&root);
    let found = cert.name_constraints().unwrap().expect("asked for");
    assert!(found.critical);
    let permitted = found.value.permitted_subtrees.as_ref().unwrap();
    assert_eq!(permitted.len(), 1);
    assert_eq!(permitted[0].base, GeneralName::URI("example.org"), "no leading dot: exactly that host");
    // OpenSSL enforces it: our own trust domain passes, another and a subdomain do not.
    let (template, facts) = template_under(&root);
    for (spiffe_id, good) in [
        ("spiffe://example.org/a", true),
        ("spiffe://example.com/a", false),
        ("spiffe://a.example.org/a", false),
    ] {
        let (tbs, _) = some_tbs(&template, &SpiffeId::new(spiffe_id).unwrap(), facts.validity);
        let leaf = sign_leaf(&keys, &id, &tbs);
        let (passed, said) = openssl_verify(&leaf, &root, NOW, "sslclient");
        assert_eq!(passed, good, "{spiffe_id}: {said}");
    }
    let constraint = cert.extensions().iter().find(|e| e.oid.to_id_string() == "2.5.29.30").unwrap();
    let in_a_leaf = CustomExtension::from_oid_content(&[2, 5, 29, 30], constraint.value.to_vec());
    assert_breaks(hostile(|pair| pair.leaf.custom_extensions.push(in_a_leaf)), "§4.2.1.10");
}

#[tokio::test]
async fn pk_21_what_is_signed_is_what_was_linted() {
    let ca = ca().await;
    let (template, _) = template_under(ca.root());
    let specimen = parsed(template.specimen(KeyType::EcP256).unwrap());
    assert!(specimen.verify_signature(Some(parsed(ca.root()).public_key())).is_err(), "a throw-away key's");
    let dns_names = vec!["lint.invalid".to_owned()];
    let lifetime = Some(Duration::from_secs(3600));
    let asked = LeafRequest { dns_names, lifetime, ..request("spiffe://example.org/lint") };
    let issued = ca.authority.sign(asked).await.unwrap();
    let issued = parsed(&issued.chain[0]);
    assert_eq!(fixed_parts(&issued), fixed_parts(&specimen));
    assert!(issued.verify_signature(Some(parsed(ca.root()).public_key())).is_ok());
    // A template whose parts are wrong never becomes one that signs.
    let mut other = inspect::ca(ca.root()).unwrap();
    let draft = Draft::new(&other);
    other.key_identifier[0] ^= 1;
    assert!(lint(draft.clone(), &other, &SpiffeId::new("spiffe://example.org/lint").unwrap()).is_err());
    other.key_identifier[0] ^= 1;
    other.subject[9] ^= 1;
    assert!(lint(draft, &other, &SpiffeId::new("spiffe://example.org/lint").unwrap()).is_err());
}

/// The TBSCertificate with serial, times, key and key identifier blanked out.
fn fixed_parts(cert: &x509_parser::prelude::X509Certificate<'_>) -> Vec<u8> {
    let mut tbs = cert.tbs_certificate.as_ref().to_vec();
    let key = PublicKey::from_spki(cert.public_key().raw).unwrap();
    let times: Vec<_> = (0..tbs.len() - 15).filter(|at| tbs[*at..].starts_with(&[0x17, 13])).collect();
    assert_eq!(times.len(), 2);
    times.iter().for_each(|at| tbs[at + 2..at + 15].fill(b'0'));
    for part in [cert.raw_serial(), key.spki(), &key.key_identifier()] {
        let at = tbs.windows(part.len()).position(|w| w == part).unwrap();
        tbs[at..at + part.len()].fill(0);
    }
    tbs
}

fn sign_leaf(keys: &dyn KeyManager, id: &KeyId, tbs: &[u8]) -> rustls_pki_types::CertificateDer<'static> {
    let signer = keys.public(id).unwrap().key_type();
    let signature = keys.sign(id, signer.certificate_scheme(), tbs).unwrap();
    spiffe_bridge::x509::assemble(tbs, signer, &signature)
}

fn template_under(root: &rustls_pki_types::CertificateDer<'_>) -> (Template, inspect::CaFacts) {
    let facts = inspect::ca(root).unwrap();
    let specimen = SpiffeId::new("spiffe://example.org/lint").unwrap();
    (lint(Draft::new(&facts), &facts, &specimen).unwrap(), facts)
}

fn some_tbs(template: &Template, spiffe_id: &SpiffeId, validity: Validity) -> (Vec<u8>, Serial) {
    let serial = random_serial().unwrap();
    let public_key = workload::generate(KeyType::EcP256).unwrap().public;
    let dns_names = DnsNames::default();
    let leaf = Leaf { serial: &serial, validity, public_key: &public_key, spiffe_id, dns_names: &dns_names };
    (template.tbs(&leaf).unwrap(), serial)
}

#[tokio::test]
async fn openssl_verifies_and_reads_what_we_sign() {
    let ca = ca().await;
    let mut asked = request("spiffe://example.org/web");
    asked.dns_names = vec!["web.example.org".into()];
    let leaf = ca.authority.sign(asked).await.unwrap().chain.remove(0);
    for purpose in ["sslclient", "sslserver"] {
        let (passed, said) = openssl_verify(&leaf, ca.root(), NOW, purpose);
        assert!(passed, "{said}");
    }
    let (passed, _) = openssl_verify(&leaf, support::ca().await.root(), NOW, "sslclient");
    assert!(!passed, "not under another root");
    let (read, text) = support::openssl(&["x509", "-noout", "-text", "-in", "leaf"], &leaf, ca.root());
    assert!(read, "{text}");
    for line in [
        "Version: 3 (0x2)",
        "ecdsa-with-SHA256",
        "X509v3 Subject Alternative Name: critical",
        "URI:spiffe://example.org/web, DNS:web.example.org",
        "X509v3 Key Usage: critical",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Basic Constraints: critical",
        "CA:FALSE",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// rcgen writes the same octets for the same leaf.
    #[test]
    fn the_template_writes_what_rcgen_writes(
        path in "[a-zA-Z0-9_-]{1,300}",
        dns in prop::collection::vec("[a-z]{1,20}(\\.[a-z]{1,20}){0,3}", 0..5),
        from in 0u64..4_000_000_000,
        life in 1u64..4_000_000_000,
        serial in prop::array::uniform17(any::<u8>()),
    ) {
        let pair = support::Hostile::new();
        let root = pair.root();
        let (template, _) = template_under(&root);
        let mut octets = serial;
        octets[0] = 0x40 | (octets[0] & 0x3f);
        let serial = Serial::from_octets(&octets).unwrap();
        let public_key = workload::generate(KeyType::EcP256).unwrap().public;
        let id = format!("spiffe://example.org/{path}");
        let (spiffe_id, dns_names) = (SpiffeId::new(&id).unwrap(), DnsNames::parse(&dns).unwrap());
        let validity = Validity {
            not_before: Timestamp::from_unix_seconds(from),
            not_after: Timestamp::from_unix_seconds(from + life),
        };
        let leaf = Leaf {
            serial: &serial, validity, public_key: &public_key, spiffe_id: &spiffe_id, dns_names: &dns_names,
        };
        let ours = template.tbs(&leaf).unwrap();

        let mut params = CertificateParams::default();
        let at = |t: Timestamp| time::OffsetDateTime::from_unix_timestamp(t.unix_seconds() as i64).unwrap();
        (params.not_before, params.not_after) = (at(validity.not_before), at(validity.not_after));
        params.serial_number = Some(SerialNumber::from_slice(serial.octets()));
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(&id)];
        params.subject_alt_names.extend(dns_names.iter().map(|n| SanType::DnsName(n.try_into().unwrap())));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = SubjectPublicKeyInfo::from_der(public_key.spki()).unwrap();
        prop_assert_eq!(key.subject_public_key_info(), public_key.spki());
        let issuer = rcgen::Issuer::<'_, &KeyPair>::from_params(&pair.ca, &pair.ca_key);
        let theirs = params.signed_by(&key, &issuer).unwrap();
        let theirs = parsed(theirs.der());
        prop_assert_eq!(ours, theirs.tbs_certificate.as_ref());
    }
}
