//! X509-SVID: one test a row of the conformance table, X5-01 to X5-18.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use spiffe_bridge::authority::SignError;
use spiffe_bridge::identity::SpiffeId;
use spiffe_bridge::x509::inspect;
use spiffe_bridge::x509::verify::{Role, VerifyError, verify};
use support::{Hostile, NOW, assert_breaks, bundle, ca, hostile, parsed, request, uri};
use x509_parser::prelude::ParsedExtension;

#[tokio::test]
async fn x5_01_a_leaf_has_exactly_one_uri() {
    let ca = ca().await;
    let mut asked = request("spiffe://example.org/web");
    asked.dns_names = vec!["web.example.org".into(), "web".into(), "web".into()];
    let leaf = inspect::leaf(&ca.authority.sign(asked).await.unwrap().chain[0]).unwrap();
    assert_eq!(leaf.uris, ["spiffe://example.org/web"]);
    assert_eq!(leaf.dns_names, ["web.example.org", "web"], "each once, in the order given");
}

#[test]
fn x5_02_more_than_one_uri_is_refused() {
    assert_breaks(
        hostile(|pair| pair.leaf.subject_alt_names.push(uri("spiffe://example.org/admin"))),
        "X509-SVID §2",
    );
    assert_breaks(
        hostile(|pair| pair.leaf.subject_alt_names.push(uri("https://example.org"))),
        "X509-SVID §2",
    );
    let dns = SanType::DnsName("web".try_into().unwrap());
    hostile(|pair| pair.leaf.subject_alt_names.push(dns)).expect("other kinds of names may stand beside it");
}

#[tokio::test]
async fn x5_03_a_leafs_id_has_a_path() {
    assert!(matches!(ca().await.refuse(request("spiffe://example.org")).await, SignError::NoPath));
    assert_breaks(
        hostile(|pair| pair.leaf.subject_alt_names = vec![uri("spiffe://example.org")]),
        "X509-SVID §5.2",
    );
}

#[tokio::test]
async fn x5_04_the_san_is_critical_beside_an_empty_subject() {
    let leaf = ca().await.issue("spiffe://example.org/web").await;
    let cert = parsed(&leaf.chain[0]);
    assert_eq!(cert.subject().iter().count(), 0);
    assert!(cert.subject_alternative_name().unwrap().unwrap().critical);
}

#[tokio::test]
async fn x5_05_the_signing_certificate_is_an_svid() {
    let uris = inspect::leaf(ca().await.root()).unwrap().uris;
    assert_eq!(uris.len(), 1);
    assert!(SpiffeId::new(&uris[0]).is_ok());
}

#[tokio::test]
async fn x5_06_a_signing_certificates_id_has_no_path() {
    let uris = inspect::leaf(ca().await.root()).unwrap().uris;
    assert_eq!(SpiffeId::new(&uris[0]).unwrap().path(), "");
    assert_breaks(below_an_intermediate("spiffe://example.org/ca"), "X509-SVID §3.2");
    below_an_intermediate("spiffe://example.org").unwrap();
}

#[tokio::test]
async fn x5_07_a_signing_certificate_is_of_its_leaves_trust_domain() {
    let ca = ca().await;
    let root = SpiffeId::new(&inspect::leaf(ca.root()).unwrap().uris[0]).unwrap();
    let leaf = ca.verify(&ca.issue("spiffe://example.org/web").await.chain).unwrap();
    assert_eq!(root.trust_domain(), leaf.trust_domain());
    let error = ca.refuse(request("spiffe://example.com/web")).await;
    assert!(matches!(error, SignError::OtherTrustDomain { .. }), "{error}");
    assert_breaks(below_an_intermediate("spiffe://example.com"), "X509-SVID §3.2");
}

#[tokio::test]
async fn x5_08_a_signing_certificate_never_authenticates_a_peer() {
    let ca = ca().await;
    assert!(ca.verify(&[ca.root().clone()]).is_err());
    // Not even one that says it may: with a path and both purposes, signed by the root.
    assert_breaks(
        hostile(|pair| pair.leaf.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
        "X509-SVID §4.1",
    );
}

#[tokio::test]
async fn x5_09_the_signing_certificate_is_a_ca() {
    let ca = ca().await;
    assert!(parsed(ca.root()).basic_constraints().unwrap().unwrap().value.ca);
}

#[tokio::test]
async fn x5_10_a_leaf_is_no_ca() {
    let leaf = ca().await.issue("spiffe://example.org/web").await;
    let cert = parsed(&leaf.chain[0]);
    let bc = cert.basic_constraints().unwrap().expect("spelt out");
    assert!(bc.critical && !bc.value.ca && bc.value.path_len_constraint.is_none());
    assert_breaks(
        hostile(|pair| pair.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        "X509-SVID §4.1",
    );
}

#[tokio::test]
async fn x5_11_key_usage_is_there_and_critical_on_every_svid() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    for der in [ca.root(), &leaf.chain[0]] {
        assert!(parsed(der).key_usage().unwrap().expect("key usage").critical);
    }
    assert_breaks(hostile(|pair| pair.leaf.key_usages.clear()), "X509-SVID §4.3");
}

#[tokio::test]
async fn x5_12_the_signing_certificate_signs_certificates() {
    let ca = ca().await;
    let root = parsed(ca.root());
    let usage = root.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
}

#[tokio::test]
async fn x5_13_a_leaf_makes_digital_signatures() {
    let leaf = ca().await.issue("spiffe://example.org/web").await;
    assert!(parsed(&leaf.chain[0]).key_usage().unwrap().unwrap().value.digital_signature());
    assert_breaks(
        hostile(|pair| pair.leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        "X509-SVID §4.3",
    );
}

#[tokio::test]
async fn x5_14_a_leaf_signs_no_certificates_and_no_crls() {
    let leaf = ca().await.issue("spiffe://example.org/web").await;
    assert_eq!(parsed(&leaf.chain[0]).key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature alone");
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        assert_breaks(hostile(|pair| pair.leaf.key_usages.push(usage)), "X509-SVID §4.3");
    }
}

#[tokio::test]
async fn x5_15_a_leaf_names_its_purposes() {
    let leaf = ca().await.issue("spiffe://example.org/web").await;
    assert!(parsed(&leaf.chain[0]).extended_key_usage().unwrap().is_some());
}

#[tokio::test]
async fn x5_16_the_purposes_are_server_and_client() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    let cert = parsed(&leaf.chain[0]);
    let eku = cert.extended_key_usage().unwrap().unwrap();
    assert!(eku.value.server_auth && eku.value.client_auth && !eku.value.any && !eku.critical);
    for role in [Role::Client, Role::Server] {
        verify(&leaf.chain, [&*ca.bundle], role, NOW).unwrap();
    }
    assert_breaks(
        hostile(|pair| pair.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        "X509-SVID §4.4",
    );
}

#[tokio::test]
async fn x5_17_paths_are_validated_by_rfc_5280() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    assert_eq!(ca.verify(&leaf.chain).unwrap().to_string(), "spiffe://example.org/web");
    let at = |now| verify(&leaf.chain, [&*ca.bundle], Role::Client, now);
    assert!(matches!(at(leaf.not_after + Duration::from_secs(1)), Err(VerifyError::Path(_))), "expired");
    assert!(
        matches!(at(leaf.not_before - Duration::from_secs(1)), Err(VerifyError::Path(_))),
        "not yet valid"
    );
    at(leaf.not_after).unwrap();
    at(leaf.not_before).unwrap();
    let other = support::ca().await;
    assert!(
        matches!(other.verify(&leaf.chain), Err(VerifyError::Path(_))),
        "another root of the same domain"
    );
    let mut forged = leaf.chain[0].to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(ca.verify(&[forged.into()]).is_err(), "another signature");
    // The bundle of another trust domain is not looked at, even if it holds the very root.
    let foreign = bundle("example.com", vec![ca.root().clone()]);
    let found = verify(&leaf.chain, [&foreign], Role::Client, NOW);
    assert!(matches!(found, Err(VerifyError::UnknownTrustDomain { .. })), "{found:?}");
    // What is no CA signs nothing, even if its ID could be a signer's.
    let mut between = Hostile::new();
    let below = between.leaf.clone();
    between.leaf.subject_alt_names = vec![uri("spiffe://example.org")];
    let issuer = rcgen::Issuer::from_params(&between.leaf, &between.leaf_key);
    let below = below.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
    let chain = [below, between.chain().remove(0)];
    let found = verify(&chain, [&bundle("example.org", vec![between.root()])], Role::Client, NOW);
    assert!(matches!(found, Err(VerifyError::Path(_))), "{found:?}");
}

#[test]
fn x5_18_the_uris_scheme_is_spiffe() {
    for text in ["https://example.org/web", "spiffes://example.org/web", "urn:example.org:web"] {
        let found = hostile(|pair| pair.leaf.subject_alt_names = vec![uri(text)]);
        assert!(matches!(found, Err(VerifyError::BadId(_))), "{text}: {found:?}");
    }
}

/// root → intermediate with this ID → leaf.
fn below_an_intermediate(id: &str) -> Result<SpiffeId, VerifyError> {
    let pair = Hostile::new();
    let key = KeyPair::generate().unwrap();
    let mut params: CertificateParams = pair.ca.clone();
    params.subject_alt_names = vec![uri(id)];
    params.distinguished_name.push(rcgen::DnType::CommonName, "between");
    params.use_authority_key_identifier_extension = true;
    let root = rcgen::Issuer::from_params(&pair.ca, &pair.ca_key);
    let between = params.signed_by(&key, &root).unwrap().der().clone();
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let leaf = pair.leaf.signed_by(&pair.leaf_key, &issuer).unwrap().der().clone();
    assert!(
        parsed(&between)
            .extensions()
            .iter()
            .all(|e| !matches!(e.parsed_extension(), ParsedExtension::ParseError { .. }))
    );
    verify(&[leaf, between], [&bundle("example.org", vec![pair.root()])], Role::Client, NOW)
}
