//! What stands in a certificate.

use std::collections::HashSet;
use std::time::Duration;

use rcgen::CustomExtension;
use spiffe_bridge::authority::{Config, SignError};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::SpiffeId;
use spiffe_bridge::keys::PublicKey;
use spiffe_bridge::x509::{Validity, inspect};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ParsedExtension, X509Version};

use super::support::{NOW, ca, ca_at, domain, hostile, parsed, request, uri};

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
