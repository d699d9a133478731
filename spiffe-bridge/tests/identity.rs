//! SPIFFE-ID: one test a row of the conformance table, ID-01 to ID-21.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use proptest::prelude::*;
use spiffe_bridge::authority::SignError;
use spiffe_bridge::identity::{
    IdError, MAX_ID_BYTES, SpiffeId, TrustDomain, parse_spiffe_id, parse_trust_domain, parse_workload_id,
};
use spiffe_bridge::x509::inspect;
use spiffe_bridge::x509::verify::VerifyError;
use support::{assert_breaks, ca, hostile, request, uri};

#[track_caller]
fn good(text: &str) {
    assert_eq!(parse_spiffe_id(text).unwrap_or_else(|e| panic!("{text:?}: {e}")).to_string(), text);
}

#[track_caller]
fn bad(text: &str) {
    assert!(parse_spiffe_id(text).is_err(), "{text:?} was taken");
}

/// Refused by the parser, and by the validator in a certificate, if a certificate can hold it.
#[track_caller]
fn bad_everywhere(text: &str) {
    bad(text);
    let result = hostile(|pair| pair.leaf.subject_alt_names = vec![uri(text)]);
    assert!(
        matches!(result, Err(VerifyError::BadId(_) | VerifyError::NotAnSvid { .. })),
        "{text:?}: {result:?}"
    );
}

#[test]
fn id_01_scheme_is_exactly_spiffe() {
    good("spiffe://example.org/a");
    for text in [
        "spiffe:",
        "http://example.org/a",
        "spiffes://example.org/a",
        "spiff://example.org/a",
        "//example.org/a",
    ] {
        bad_everywhere(text);
    }
    bad("");
    bad(" spiffe://example.org/a");
    bad("spiffe:/example.org/a");
}

#[test]
fn id_02_trust_domain_is_not_empty() {
    bad_everywhere("spiffe:///p");
    bad_everywhere("spiffe://");
    assert!(parse_trust_domain("").is_err());
}

#[test]
fn id_03_no_query_and_no_fragment() {
    for tail in ["?", "#", "?a=b", "#a", "?#"] {
        bad_everywhere(&format!("spiffe://example.org/a{tail}"));
        bad_everywhere(&format!("spiffe://example.org{tail}"));
    }
}

#[test]
fn id_04_no_user_information_and_no_port() {
    for host in ["u@example.org", "example.org:8443", "example.org:", "@example.org", "u:p@example.org"] {
        bad_everywhere(&format!("spiffe://{host}/a"));
        assert!(parse_trust_domain(host).is_err(), "{host}");
    }
}

#[test]
fn id_05_host_is_not_empty() {
    for text in ["spiffe:///", "spiffe:////a", "spiffe://:1/a", "spiffe://u@/a"] {
        bad_everywhere(text);
    }
}

#[tokio::test]
async fn id_06_host_is_in_lower_case_in_all_we_issue() {
    let text = "spiffe://EXAMPLE.org/Web";
    assert!(matches!(parse_spiffe_id(text), Err(IdError::NotCanonical { .. })));
    assert!(matches!(parse_trust_domain("Example.org"), Err(IdError::NotCanonical { .. })));
    // What gets past the edge by another way is still issued in lower case, its path as it is.
    let ca = ca().await;
    if SpiffeId::new(text).is_ok() {
        let leaf = ca.issue(text).await;
        assert_eq!(inspect::leaf(&leaf.chain[0]).unwrap().uris, ["spiffe://example.org/Web"]);
    }
    assert_eq!(inspect::leaf(ca.root()).unwrap().uris, ["spiffe://example.org"]);
}

#[test]
fn id_07_host_has_only_plain_characters() {
    good("spiffe://a-z_0.9/a");
    for host in [
        "exämple.org",
        "еxample.org",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\0b",
        "a b",
        "a~b",
        "a*b",
        "a!b",
        "[::1]",
    ] {
        bad(&format!("spiffe://{host}/a"));
        assert!(parse_trust_domain(host).is_err(), "{host:?}");
    }
    bad_everywhere("spiffe://a~b/a");
}

#[test]
fn id_08_no_percent_encoding_in_the_host() {
    bad_everywhere("spiffe://ex%61mple.org/a");
    bad_everywhere("spiffe://example.org%2f/a");
}

#[test]
fn id_09_hosts_that_look_like_something_else_are_trust_domains() {
    for host in ["1.2.3.4", "a_b", "xn--x", "-a", "a.", "0", "_"] {
        good(&format!("spiffe://{host}/a"));
        assert_eq!(parse_trust_domain(host).unwrap().as_str(), host);
    }
}

#[test]
fn id_10_no_percent_encoding_in_the_path() {
    for path in ["%2e%2e", "a%2Fb", "a%00", "%41"] {
        bad_everywhere(&format!("spiffe://example.org/{path}"));
    }
}

#[test]
fn id_11_no_empty_and_no_dot_segments() {
    for path in ["//a", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/../a"] {
        bad_everywhere(&format!("spiffe://example.org{path}"));
    }
    good("spiffe://example.org/.../a..b/.c");
}

#[test]
fn id_12_no_slash_at_the_end() {
    bad_everywhere("spiffe://example.org/");
    bad_everywhere("spiffe://example.org/a/");
}

#[test]
fn id_13_segments_have_only_plain_characters() {
    good("spiffe://example.org/azAZ09._-");
    for c in ['!', '*', '+', ':', '@', '~', '$', '\\', '\n', '\0', 'é', ' ', '\u{7f}'] {
        bad(&format!("spiffe://example.org/a{c}b"));
    }
    bad_everywhere("spiffe://example.org/a~b");
}

#[tokio::test]
async fn id_14_ids_of_2048_bytes_are_issued_and_verified() {
    let ca = ca().await;
    let prefix = "spiffe://example.org/";
    let id = format!("{prefix}{}", "a".repeat(MAX_ID_BYTES - prefix.len()));
    assert_eq!(id.len(), 2048);
    good(&id);
    let leaf = ca.issue(&id).await;
    assert_eq!(inspect::leaf(&leaf.chain[0]).unwrap().uris, [id.as_str()]);
    assert_eq!(ca.verify(&leaf.chain).unwrap().to_string(), id);
}

#[tokio::test]
async fn id_15_no_id_over_2048_bytes_is_issued() {
    let id = format!("spiffe://example.org/{}", "a".repeat(2048 - 20));
    assert_eq!(id.len(), 2049);
    assert!(matches!(parse_spiffe_id(&id), Err(IdError::TooLong { len: 2049 })));
    // The library's own limit is not what we rely on.
    if let Ok(spiffe_id) = SpiffeId::new(&id) {
        let mut request = request("spiffe://example.org/a");
        request.spiffe_id = spiffe_id;
        assert!(matches!(ca().await.refuse(request).await, SignError::TooLong { len: 2049 }));
    }
}

#[test]
fn id_16_trust_domain_has_at_most_255_bytes() {
    assert!(parse_trust_domain(&"a".repeat(255)).is_ok());
    assert!(parse_trust_domain(&"a".repeat(256)).is_err());
    good(&format!("spiffe://{}/a", "a".repeat(255)));
    bad(&format!("spiffe://{}/a", "a".repeat(256)));
}

#[test]
fn id_17_paths_differ_by_case_and_trust_domains_do_not() {
    assert_ne!(parse_spiffe_id("spiffe://a/B").unwrap(), parse_spiffe_id("spiffe://a/b").unwrap());
    assert_eq!(TrustDomain::new("A.b").unwrap(), TrustDomain::new("a.b").unwrap());
    assert_eq!(SpiffeId::new("spiffe://A.b/c").unwrap(), SpiffeId::new("spiffe://a.b/c").unwrap());
    // SPIFFE-ID §2.4 lets the scheme differ too; the field's parser is stricter, which is safe.
    if let Ok(id) = SpiffeId::new("SPIFFE://a.b/c") {
        assert_eq!(id, SpiffeId::new("spiffe://a.b/c").unwrap());
    }
}

#[tokio::test]
async fn id_18_the_authority_carries_an_svid_of_its_own() {
    let ca = ca().await;
    assert_eq!(inspect::leaf(ca.root()).unwrap().uris, ["spiffe://example.org"]);
    assert_eq!(ca.bundle.trust_domain, support::domain());
}

#[tokio::test]
async fn id_19_the_authoritys_id_is_the_trust_domain_without_a_path() {
    let ca = ca().await;
    let id = SpiffeId::new(&inspect::leaf(ca.root()).unwrap().uris[0]).unwrap();
    assert_eq!((id.trust_domain(), id.path()), (&ca.bundle.trust_domain, ""));
    let error = ca.refuse(request("spiffe://example.org")).await;
    assert!(matches!(error, SignError::NoPath), "that ID is nobody else's: {error}");
    assert!(matches!(parse_workload_id("spiffe://example.org"), Err(IdError::NoPath { .. })));
}

#[tokio::test]
async fn id_20_id_and_key_are_in_the_signed_part() {
    let ca = ca().await;
    let asked = request("spiffe://example.org/web");
    let leaf = ca.authority.sign(asked.clone()).await.unwrap().chain.remove(0);
    let der = leaf.to_vec();
    let tbs = support::parsed(&leaf).tbs_certificate.as_ref().to_vec();
    let start = der.windows(tbs.len()).position(|w| w == tbs).unwrap();
    for part in [b"spiffe://example.org/web".as_slice(), asked.public_key.octets()] {
        let at = tbs.windows(part.len()).position(|w| w == part).expect("in the signed part");
        let mut forged = der.clone();
        forged[start + at + part.len() - 1] ^= 1;
        assert!(ca.verify(&[forged.into()]).is_err());
    }
}

#[tokio::test]
async fn id_21_only_svids_are_accepted() {
    let ca = ca().await;
    assert!(ca.verify(&[]).is_err());
    assert!(ca.verify(&[b"eyJhbGciOiJFUzI1NiJ9.e30.c2ln".as_slice().into()]).is_err());
    assert_breaks(
        hostile(|pair| {
            pair.leaf.subject_alt_names = vec![rcgen::SanType::DnsName("a.b".try_into().unwrap())]
        }),
        "X509-SVID §2",
    );
    assert_breaks(hostile(|pair| pair.leaf.subject_alt_names.clear()), "X509-SVID §2");
    let mut trailing = ca.issue("spiffe://example.org/a").await.chain[0].to_vec();
    trailing.push(0);
    assert!(ca.verify(&[trailing.into()]).is_err());
}

proptest! {
    #[test]
    fn what_parses_prints_the_same_and_is_plain(text in "(spiffe://)?[a-zA-Z0-9._/%?#@:~-]{0,40}") {
        if let Ok(id) = parse_spiffe_id(&text) {
            prop_assert_eq!(id.to_string(), text.as_str());
            let rest = text.strip_prefix("spiffe://").unwrap();
            let (host, path) = rest.split_once('/').map_or((rest, None), |(h, p)| (h, Some(p)));
            prop_assert!(!host.is_empty());
            prop_assert!(host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)));
            let plain = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            prop_assert!(path.is_none_or(|p| p.split('/').all(|s| !matches!(s, "" | "." | "..") && plain(s))));
        }
    }
}
