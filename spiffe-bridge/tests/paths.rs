//! Paths from leaf to root: name constraints, and work that stays bounded whatever a peer sends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls_pki_types::CertificateDer;
use spiffe_bridge::authority::{Config, Hierarchy};
use spiffe_bridge::keys::{KeyId, KeyManager, KeyType, MemoryKeys};
use spiffe_bridge::x509::Validity;
use spiffe_bridge::x509::root::{NameConstraints, Root, self_sign};
use spiffe_bridge::x509::verify::{Role, VerifyError, verify};
use support::{Hostile, NOW, bundle, ca_at, domain, openssl_verify_chain, parsed};

/// rustls's webpki refuses every chain with a URI constraint, whether it is kept or not, and OpenSSL keeps to it: so
/// neither of our CAs has one unless it is asked for.
#[tokio::test]
async fn pk_14_uri_name_constraints_are_asked_for_or_not_there() {
    assert_eq!(NameConstraints::default(), NameConstraints::Unconstrained);
    for hierarchy in [Hierarchy::Root, Hierarchy::Intermediate] {
        let ca = ca_at(NOW, Config { hierarchy, ..Config::new(domain()) }).await;
        let leaf = ca.issue("spiffe://example.org/web").await;
        for der in leaf.chain.iter().chain([ca.root()]) {
            assert!(parsed(der).name_constraints().unwrap().is_none(), "{hierarchy:?}");
        }
        ca.verify(&leaf.chain).unwrap();
    }
    let keys = MemoryKeys::new();
    let id: KeyId = "root".parse().unwrap();
    keys.generate(&id, KeyType::EcP256).unwrap();
    let validity = Validity { not_before: NOW, not_after: NOW + std::time::Duration::from_secs(7200) };
    let name_constraints = NameConstraints::OwnTrustDomain;
    let constrained =
        self_sign(&Root { trust_domain: &domain(), validity, depth: 0, name_constraints }, &keys, &id)
            .unwrap();
    let found = parsed(&constrained)
        .extensions()
        .iter()
        .find(|e| e.oid.to_id_string() == "2.5.29.30")
        .unwrap()
        .value
        .to_vec();
    // The same constraint in a CA that is good but for it: kept by the leaf, and refused by webpki all the same.
    let mut pair = Hostile::new();
    pair.verify().unwrap();
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], found);
    extension.set_criticality(true);
    pair.ca.custom_extensions.push(extension);
    let refused = pair.verify().unwrap_err();
    assert!(matches!(refused, VerifyError::Path(webpki::Error::NameConstraintViolation)), "{refused:?}");
    let (passed, said) = openssl_verify_chain(&pair.chain(), &pair.root(), NOW, "sslclient");
    assert!(passed, "{said}");
}

/// A CA's name and key, with which it can be certified by any other.
struct Named {
    params: CertificateParams,
    key: KeyPair,
}

impl Named {
    fn new(name: &str, like: &CertificateParams) -> Self {
        let mut params = like.clone();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        Self { params, key: KeyPair::generate().unwrap() }
    }

    /// The certificate that `issuer` gives this CA.
    fn under(&self, issuer: &Self) -> CertificateDer<'static> {
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        self.params.signed_by(&self.key, &issuer).unwrap().der().clone()
    }
}

/// A leaf of the last of `cas`, and the certificates `edges` (subject, issuer) of them; the first CA is the root.
fn judge(cas: &[Named], edges: &[(usize, usize)], leaf_issuer: usize) -> Result<(), VerifyError> {
    let pair = Hostile::new();
    let issuer = Issuer::from_params(&cas[leaf_issuer].params, &cas[leaf_issuer].key);
    let leaf = pair.leaf.signed_by(&pair.leaf_key, &issuer).unwrap().der().clone();
    let chain: Vec<_> = std::iter::once(leaf)
        .chain(edges.iter().map(|(subject, issuer)| cas[*subject].under(&cas[*issuer])))
        .collect();
    let root = cas[0].params.self_signed(&cas[0].key).unwrap().der().clone();
    verify(&chain, [&bundle("example.org", vec![root])], Role::Client, NOW).map(drop)
}

fn named(names: &[&str]) -> Vec<Named> {
    let like = Hostile::new().ca;
    names.iter().map(|name| Named::new(name, &like)).collect()
}

/// Whether there is a way from `from` to the root, 0, over `edges`, and none of more than six certificates.
fn reaches(edges: &[(usize, usize)], from: usize) -> bool {
    let mut reached = std::collections::BTreeSet::from([from]);
    for _ in 0..edges.len() {
        let next = edges.iter().filter(|(subject, _)| reached.contains(subject)).map(|(_, issuer)| *issuer);
        reached.extend(next.collect::<Vec<_>>());
    }
    reached.contains(&0)
}

#[test]
fn pk_18_path_validation_does_a_bounded_amount_of_work() {
    // A chain of good certificates, as deep as is taken and one deeper, and ten times as deep.
    let names: Vec<String> = (0..71).map(|n| format!("ca {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cas = named(&names);
    let line = |depth: usize| -> Vec<_> { (1..=depth).rev().map(|n| (n, n - 1)).collect() };
    for depth in 0..=6 {
        judge(&cas, &line(depth), depth).unwrap_or_else(|error| panic!("{depth}: {error:?}"));
    }
    assert!(matches!(judge(&cas, &line(7), 7), Err(VerifyError::Path(_))), "webpki takes six");
    assert!(matches!(judge(&cas, &line(8), 8), Err(VerifyError::Length { len: 9 })), "not even looked at");
    assert!(matches!(judge(&cas, &line(70), 70), Err(VerifyError::Length { len: 71 })));
    // Self-issued, in a ring, and each certified by each: none leads to the root.
    assert!(judge(&cas, &[(1, 1); 7], 1).is_err());
    assert!(judge(&cas, &[(1, 2), (2, 3), (3, 1)], 1).is_err());
    assert!(judge(&cas, &[(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)], 1).is_err());
    // All of one name: every one may have issued every other, as far as names tell. RUSTSEC-2023-0053.
    let same = named(&["root", "a", "a", "a", "a", "a", "a", "a", "a"]);
    let tangled: Vec<_> = (1..8).map(|n| (n, n + 1)).collect();
    assert!(matches!(judge(&same, &tangled, 1), Err(VerifyError::Path(_))));
    assert!(matches!(
        judge(&same, &[(1, 2), (2, 1), (1, 1), (2, 2), (3, 1), (1, 3), (3, 3)], 1),
        Err(VerifyError::Path(_))
    ));
    // A way out of the tangle is found.
    judge(&same, &[(1, 2), (2, 1), (1, 1), (2, 2), (3, 1), (1, 3), (1, 0)], 1).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever certifies whatever, and in whichever order it is sent: who has no way to the root is refused.
    #[test]
    fn who_has_no_way_to_the_root_is_refused_and_who_has_a_short_one_is_not(
        edges in prop::collection::vec((1usize..4, 0usize..4), 0..7),
    ) {
        let cas = named(&["root", "a", "b", "c"]);
        let verdict = judge(&cas, &edges, 1);
        prop_assert_eq!(verdict.is_ok(), reaches(&edges, 1), "{:?} {:?}", edges, verdict);
    }
}
