//! PKIX: one test a row of the conformance table, PK-01 to PK-13 and PK-21; rcgen and OpenSSL judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use spiffe_bridge::authority::{Config, LeafRequest, SignError};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{Serial, SpiffeId};
use spiffe_bridge::keys::{
    KeyError, KeyHome, KeyId, KeyManager, KeyType, MemoryKeys, PublicKey, SignatureScheme, workload,
};
use spiffe_bridge::store::Store;
use spiffe_bridge::x509::root::{NameConstraints, Root, self_sign};
use spiffe_bridge::x509::{DnsNames, Draft, Leaf, Template, Validity, inspect, lint, random_serial};
use support::{
    Ca, NOW, assert_breaks, ca, ca_at, ca_over, domain, hostile, openssl_verify, parsed, request, uri,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ParsedExtension, X509Version};

#[tokio::test]
async fn pk_01_serials_are_positive_random_and_never_repeat() {
    let ca = ca().await;
    let key = request("spiffe://example.org/web");
    let all = futures_like(&ca, &key, 600).await;
    let serials: HashSet<_> = all.iter().cloned().collect();
    assert_eq!(serials.len(), 600, "the same key gets a new serial each time");
    let mut ones = [0usize; 128];
    for serial in &serials {
        let octets = serial.octets();
        assert!((16..=18).contains(&octets.len()) && octets[0] > 0 && octets[0] < 0x80, "{serial}");
        let tail = &octets[octets.len() - 16..];
        (0..128).for_each(|bit| ones[bit] += usize::from(tail[bit / 8] >> (bit % 8) & 1));
    }
    // 600 fair coins fall 300 ± 12.2; 7 deviations in any of 128 bits is 1 in 10^9.
    assert!(ones.iter().all(|n| n.abs_diff(300) < 86), "each of 128 bits is random: {ones:?}");
    let leaf = ca.issue("spiffe://example.org/web").await;
    assert_eq!(parsed(&leaf.chain[0]).raw_serial(), leaf.serial.octets());
    assert!(inspect::ca(ca.root()).unwrap().serial.octets().len() >= 16);
}

/// Asks for `count` leaves at once, so that they come in batches.
async fn futures_like(ca: &Ca, request: &LeafRequest, count: usize) -> Vec<Serial> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (authority, request) = (ca.authority.clone(), request.clone());
        tasks.spawn(async move { authority.sign(request).await.unwrap().serial });
    }
    tasks.join_all().await
}

/// A key manager that looks into the store each time before it signs.
struct Witness {
    keys: MemoryKeys,
    store: Store,
    seen: AtomicUsize,
}

impl KeyManager for Witness {
    fn generate(&self, id: &KeyId, key_type: KeyType) -> Result<PublicKey, KeyError> {
        let steps = self.store.list(b"authority/journal").unwrap();
        let names = |value: &[u8]| String::from_utf8_lossy(value).contains(id.as_str());
        assert!(steps.iter().any(|(_, step)| names(&step.value)), "the step is durable first");
        self.keys.generate(id, key_type)
    }
    fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.keys.public(id)
    }
    fn sign(&self, id: &KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if self.store.get(b"authority/root").unwrap().is_some() {
            let rows = self.store.list(b"authority/reserved/").unwrap();
            let reserved = rows.iter().any(|(_, row)| row.value.windows(message.len()).any(|w| w == message));
            assert!(reserved, "signed before its to-be-signed octets were durable");
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
        self.keys.sign(id, scheme, message)
    }
    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.keys.destroy(id)
    }
    fn list(&self) -> Result<Vec<KeyId>, KeyError> {
        self.keys.list()
    }
    fn home(&self) -> KeyHome {
        self.keys.home()
    }
}

#[tokio::test]
async fn pk_02_serial_and_octets_are_durable_before_the_signature() {
    let store = support::in_memory();
    let witness =
        Arc::new(Witness { keys: MemoryKeys::new(), store: store.clone(), seen: AtomicUsize::new(0) });
    let ca = ca_over(NOW, Config::new(domain()), witness.clone(), store).await;
    let serials = futures_like(&ca, &request("spiffe://example.org/web"), 40).await;
    assert_eq!(witness.seen.load(Ordering::Relaxed), 40);
    let rows = ca.store.list(b"authority/reserved/").unwrap();
    assert!(rows.len() < 40, "one reservation a batch");
    for serial in serials {
        let octets = serial.octets();
        assert!(rows.iter().any(|(_, row)| row.value.windows(octets.len()).any(|w| w == octets)));
    }
}

#[tokio::test]
async fn pk_03_both_signature_algorithms_are_the_same() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    for der in [ca.root(), &leaf.chain[0]] {
        let cert = parsed(der);
        assert_eq!(cert.signature_algorithm, cert.tbs_certificate.signature);
        assert_eq!(cert.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2");
        assert!(cert.signature_algorithm.parameters.is_none());
    }
}

#[tokio::test]
async fn pk_04_the_issuer_is_the_cas_subject_octet_for_octet() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    let (root, leaf) = (parsed(ca.root()), parsed(&leaf.chain[0]));
    assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());
    assert!(root.subject().iter().count() > 0);
}

#[tokio::test]
async fn pk_05_times_are_utc_to_2049_and_generalized_from_2050() {
    let new_year = Timestamp::from_unix_seconds(2_524_608_000);
    let ca = ca_at(new_year - Duration::from_millis(600_250), Config::new(domain())).await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    let cert = parsed(&leaf.chain[0]);
    let contains = |text: &[u8]| cert.tbs_certificate.as_ref().windows(text.len()).any(|w| w == text);
    assert!(contains(b"\x17\x0d491231234459Z"), "UTCTime, whole seconds");
    assert!(contains(b"\x18\x0f20500101004959Z"), "GeneralizedTime, no fraction");
    ca.verify(&leaf.chain).unwrap();
}

#[tokio::test]
async fn pk_06_a_leaf_lies_within_its_issuer() {
    let config = Config { root_lifetime: Duration::from_secs(1800), ..Config::new(domain()) };
    let ca = ca_at(NOW, config).await;
    let root = inspect::ca(ca.root()).unwrap().validity;
    let leaf = ca.issue("spiffe://example.org/web").await;
    assert_eq!(leaf.not_before, root.not_before, "backdated as far as the root, not beyond");
    assert_eq!(leaf.not_after, root.not_after, "an hour is cut to the half hour that is left");
    assert_eq!(
        inspect::leaf(&leaf.chain[0]).unwrap().validity,
        Validity { not_before: leaf.not_before, not_after: leaf.not_after }
    );
    ca.hands.advance(Duration::from_secs(900));
    let later = ca.issue("spiffe://example.org/web").await;
    assert_eq!(later.not_before, NOW + Duration::from_secs(600));
    ca.hands.advance(Duration::from_secs(900));
    assert!(matches!(ca.refuse(request("spiffe://example.org/web")).await, SignError::RootNotValid { .. }));
    assert!(ca.authority.status().root_ends_soon);
}

#[tokio::test]
async fn pk_07_version_3_and_no_unique_identifiers() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    for der in [ca.root(), &leaf.chain[0]] {
        let tbs = parsed(der).tbs_certificate;
        assert_eq!(tbs.version, X509Version::V3);
        assert!(tbs.issuer_uid.is_none() && tbs.subject_uid.is_none());
    }
}

#[tokio::test]
async fn pk_08_no_extension_twice_and_unknown_critical_ones_are_refused() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    for der in [ca.root(), &leaf.chain[0]] {
        let cert = parsed(der);
        let oids: HashSet<_> = cert.extensions().iter().map(|e| e.oid.to_id_string()).collect();
        assert_eq!(oids.len(), cert.extensions().len());
    }
    let unknown = |critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(critical);
        hostile(|pair| pair.leaf.custom_extensions.push(extension))
    };
    assert!(unknown(true).is_err());
    unknown(false).unwrap();
    let again = CustomExtension::from_oid_content(&[2, 5, 29, 37], vec![0x30, 0]);
    assert!(hostile(|pair| pair.leaf.custom_extensions.push(again)).is_err());
}

#[tokio::test]
async fn pk_09_a_leaf_names_its_issuers_key() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    let root = inspect::ca(ca.root()).unwrap();
    let cert = parsed(&leaf.chain[0]);
    let aki = cert.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(aki) => {
            Some((e.critical, aki.key_identifier.clone()?.0.to_vec()))
        }
        _ => None,
    });
    assert_eq!(aki, Some((false, root.key_identifier)));
}

#[tokio::test]
async fn pk_10_the_ca_names_its_key() {
    let ca = ca().await;
    let root = parsed(ca.root());
    let ski = root.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some((e.critical, id.0.to_vec())),
        _ => None,
    });
    let key = PublicKey::from_spki(root.public_key().raw).unwrap();
    assert_eq!(ski, Some((false, key.key_identifier().to_vec())));
}

#[tokio::test]
async fn pk_11_names_are_ia5_and_nothing_else_is_issued() {
    let ca = ca().await;
    for name in [
        "a\0b",
        "a\0.example.org",
        "exämple.org",
        "",
        ".",
        "a..b",
        "-a-.",
        "*",
        "*.a.b",
        "a b",
        "a\n",
        "a.b.",
    ] {
        let mut asked = request("spiffe://example.org/web");
        asked.dns_names = vec![name.to_owned()];
        assert!(matches!(ca.refuse(asked).await, SignError::DnsName(_)), "{name:?}");
    }
    assert!(SpiffeId::new("spiffe://example.org/a\0b").is_err());
    let leaf = ca.issue("spiffe://example.org/web").await;
    let cert = parsed(&leaf.chain[0]);
    let san = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*san, [GeneralName::URI("spiffe://example.org/web")]);
    // As a validator: a NUL ends no name early.
    assert!(hostile(|pair| pair.leaf.subject_alt_names = vec![uri("spiffe://example.org/web\0x")]).is_err());
}

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
