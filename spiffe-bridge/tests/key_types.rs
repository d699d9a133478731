//! CAs and leaves of each type of key, with and without an issuing CA: webpki and OpenSSL judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::Arc;

use spiffe_bridge::audit::Log;
use spiffe_bridge::authority::{self, Authority, Config, Hierarchy, LeafRequest, OpenError, SignError};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::keys::workload::{self, WorkloadKey};
use spiffe_bridge::keys::{KeyManager, KeyType, MemoryKeys, PublicKey};
use spiffe_bridge::store::Store;
use spiffe_bridge::x509::inspect;
use support::{Ca, NOW, ca_at, domain, in_memory, openssl_verify_chain, parsed, request};

fn config(key_type: KeyType, hierarchy: Hierarchy) -> Config {
    Config { key_type, hierarchy, ..Config::new(domain()) }
}

/// OpenSSL 3.0, which Debian 12 has, knows no ML-DSA.
fn openssl_knows(key_type: KeyType) -> bool {
    !matches!(key_type, KeyType::MlDsa44 | KeyType::MlDsa65)
}

/// Has `ca` sign a leaf for each of `keys`, and has it judged.
async fn check(ca: &Ca, ca_type: KeyType, hierarchy: Hierarchy, keys: &[(KeyType, WorkloadKey)]) {
    let root = inspect::ca(ca.root()).unwrap();
    assert_eq!((root.public_key.key_type(), ca.bundle.roots.len()), (ca_type, 1));
    for (leaf_type, key) in keys {
        let what = format!("{leaf_type} under {ca_type}, {hierarchy:?}");
        let asked = LeafRequest { public_key: key.public.clone(), ..request("spiffe://example.org/web") };
        let chain = ca.authority.sign(asked).await.unwrap().chain;
        assert_eq!(chain.len(), 1 + usize::from(hierarchy.depth()), "{what}");
        assert_eq!(PublicKey::from_spki(parsed(&chain[0]).public_key().raw).unwrap().key_type(), *leaf_type);
        ca.verify(&chain).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let issuer = chain.get(1).map_or(root.clone(), |issuing| inspect::ca(issuing).unwrap());
        inspect::signed_by(&chain[0], &issuer).unwrap();
        let usage = parsed(&chain[0]).key_usage().unwrap().unwrap().value.flags;
        assert_eq!(usage, 1, "{what}: digitalSignature alone, for RSA too: TLS 1.3 encrypts nothing with it");
        if openssl_knows(ca_type) && openssl_knows(*leaf_type) {
            for purpose in ["sslclient", "sslserver"] {
                let (passed, said) = openssl_verify_chain(&chain, ca.root(), NOW, purpose);
                assert!(passed, "{what}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn every_ca_signs_leaves_of_every_type_and_others_verify_them() {
    let keys = KeyType::ALL.map(|key_type| (key_type, workload::generate(key_type).unwrap()));
    for ca_type in KeyType::ALL {
        let ca = ca_at(NOW, config(ca_type, Hierarchy::Intermediate)).await;
        check(&ca, ca_type, Hierarchy::Intermediate, &keys).await;
        // Keys that take seconds to make were seen to sign.
        if !matches!(ca_type, KeyType::Rsa3072 | KeyType::Rsa4096) {
            let ca = ca_at(NOW, config(ca_type, Hierarchy::Root)).await;
            check(&ca, ca_type, Hierarchy::Root, &keys).await;
        }
    }
}

#[tokio::test]
async fn an_issuing_ca_stands_between_root_and_leaf_and_nothing_below_it() {
    let ca = ca_at(NOW, config(KeyType::EcP384, Hierarchy::Intermediate)).await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    let (root, issuing) = (parsed(ca.root()), parsed(&leaf.chain[1]));
    let depth = |cert: &x509_parser::prelude::X509Certificate<'_>| {
        let basic = cert.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca);
        basic.value.path_len_constraint
    };
    assert_eq!((depth(&root), depth(&issuing)), (Some(1), Some(0)));
    assert_eq!(issuing.issuer().as_raw(), root.subject().as_raw());
    assert_ne!(issuing.subject().as_raw(), root.subject().as_raw());
    assert_eq!(parsed(&leaf.chain[0]).issuer().as_raw(), issuing.subject().as_raw());
    assert_eq!(issuing.validity(), root.validity());
    assert!(issuing.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert_ne!(issuing.raw_serial(), root.raw_serial());
    let status = ca.authority.status();
    assert_eq!((status.hierarchy, status.key_type), (Hierarchy::Intermediate, KeyType::EcP384));
    assert_eq!(status.issuing_serial.unwrap().octets(), issuing.raw_serial());
    // Without it in the chain, nobody finds the way.
    assert!(ca.verify(&leaf.chain[..1]).is_err());
    let (passed, _) = openssl_verify_chain(&leaf.chain[..1], ca.root(), NOW, "sslclient");
    assert!(!passed);
    // Neither CA's key is certified as a workload's.
    for der in [ca.root(), &leaf.chain[1]] {
        let public_key = PublicKey::from_spki(parsed(der).public_key().raw).unwrap();
        let refused = ca.refuse(LeafRequest { public_key, ..request("spiffe://example.org/web") }).await;
        assert!(matches!(refused, SignError::AuthorityKey), "{refused}");
    }
}

fn open(config: &Config, keys: &Arc<MemoryKeys>, store: &Store) -> Result<Authority, OpenError> {
    let (clock, _) = Clock::manual(NOW);
    let log = Log::open(store.clone(), clock.clone()).unwrap();
    authority::open(config.clone(), keys.clone(), store.clone(), log, clock).map(|(authority, _)| authority)
}

#[tokio::test]
async fn an_authority_that_exists_keeps_its_own_whatever_is_configured() {
    let (store, keys) = (in_memory(), Arc::new(MemoryKeys::new()));
    let (clock, _) = Clock::manual(NOW);
    authority::init(&Config::new(domain()), keys.clone(), &store, &clock).await.unwrap();
    let status = open(&config(KeyType::Ed25519, Hierarchy::Intermediate), &keys, &store).unwrap().status();
    assert_eq!((status.hierarchy, status.key_type), (Hierarchy::Root, KeyType::EcP256));
    assert!(status.issuing_serial.is_none());
}

#[tokio::test]
async fn beside_an_issuing_ca_the_roots_key_may_be_elsewhere() {
    let (store, keys) = (in_memory(), Arc::new(MemoryKeys::new()));
    let (clock, _) = Clock::manual(NOW);
    let config = config(KeyType::EcP256, Hierarchy::Intermediate);
    authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
    let find =
        |start: &str| keys.list().unwrap().into_iter().find(|id| id.as_str().starts_with(start)).unwrap();
    keys.destroy(&find("root-")).unwrap();
    open(&config, &keys, &store).unwrap();
    let issuing = find("issuing-");
    keys.destroy(&issuing).unwrap();
    assert!(matches!(open(&config, &keys, &store), Err(OpenError::Key(_))));
    keys.generate(&issuing, KeyType::EcP256).unwrap();
    assert!(matches!(open(&config, &keys, &store), Err(OpenError::KeyMismatch { .. })));
}

/// The names and types of all keys, without the random part of the names.
fn held(keys: &MemoryKeys) -> Vec<(String, KeyType)> {
    let one = |id: &spiffe_bridge::keys::KeyId| {
        let kind = id.as_str().split('-').next().unwrap().to_owned();
        (kind, keys.public(id).unwrap().key_type())
    };
    keys.list().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn an_init_that_was_cut_off_goes_on_as_what_is_asked_for_now() {
    let check = async |first: Config, then: Config, expected: &[(&str, KeyType)]| {
        let (store, keys) = (in_memory(), Arc::new(MemoryKeys::new()));
        let (clock, _) = Clock::manual(NOW);
        // The root cannot be valid until then: the keys are made, the certificate is not.
        let beyond = Config { root_lifetime: std::time::Duration::from_secs(1 << 40), ..first };
        authority::init(&beyond, keys.clone(), &store, &clock).await.unwrap_err();
        assert!(store.get(b"authority/journal").unwrap().is_some());
        authority::init(&then, keys.clone(), &store, &clock).await.unwrap();
        assert!(store.get(b"authority/journal").unwrap().is_none());
        let expected: Vec<_> = expected.iter().map(|(kind, of)| ((*kind).to_owned(), *of)).collect();
        assert_eq!(held(&keys), expected);
        assert_eq!(open(&then, &keys, &store).unwrap().status().hierarchy, then.hierarchy);
    };
    let (root, below) = (Hierarchy::Root, Hierarchy::Intermediate);
    let (p256, p384) = (KeyType::EcP256, KeyType::EcP384);
    check(config(p256, below), config(p256, below), &[("issuing", p256), ("root", p256)]).await;
    check(config(p256, below), config(p256, root), &[("root", p256)]).await;
    check(config(p256, root), config(p256, below), &[("issuing", p256), ("root", p256)]).await;
    check(config(p256, root), config(p384, root), &[("root", p384)]).await;
}
