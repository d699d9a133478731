//! pkilint has nothing to say of our certificates: roots, issuing CAs and leaves of each type of key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use integration::tools::pkilint::{Finding, lint};
use rustls_pki_types::CertificateDer;
use spiffe_bridge::audit::Log;
use spiffe_bridge::authority::{self, Authority, Config, Hierarchy, LeafRequest};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::{SpiffeId, TrustDomain};
use spiffe_bridge::keys::{KeyType, MemoryKeys, workload};
use spiffe_bridge::store;
use tokio_util::sync::CancellationToken;

/// An authority in memory whose CA keys are of `key_type`.
async fn authority(key_type: KeyType, hierarchy: Hierarchy, drain: &CancellationToken) -> Authority {
    let (store, writer) = store::in_memory().unwrap();
    std::thread::spawn(move || writer.run());
    let (clock, keys) = (Clock::system(), Arc::new(MemoryKeys::new()));
    let config = Config { key_type, hierarchy, ..Config::new(TrustDomain::new("example.org").unwrap()) };
    authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
    let log = Log::open(store.clone(), clock.clone()).unwrap();
    let (authority, issuer) = authority::open(config, keys, store, log, clock).unwrap();
    tokio::spawn(issuer.run(drain.clone()));
    authority
}

/// A leaf with a key of `key_type`, what stands behind it, and the root.
async fn chain(authority: &Authority, key_type: KeyType) -> Vec<CertificateDer<'static>> {
    let request = LeafRequest {
        spiffe_id: SpiffeId::new("spiffe://example.org/ns/web/sa/front_end.v2").unwrap(),
        dns_names: vec!["web.example.org".to_owned()],
        public_key: workload::generate(key_type).unwrap().public,
        lifetime: None,
    };
    let mut chain = authority.sign(request).await.unwrap().chain;
    chain.push(authority.bundle().borrow().roots[0].clone());
    chain
}

/// pkilint has URIs read by a validator of links, which knows nine schemes (http, ftp, ssh, …) and calls every other one
/// bad syntax. RFC 5280 §4.2.1.6 takes any scheme, and RFC 3986 §3.1 lets anybody define one: spiffe is (SPIFFE-ID §2).
fn is_of_the_spiffe_uri(finding: &Finding) -> bool {
    finding.code == "pkix.invalid_uri_syntax"
        && finding.message.as_deref().unwrap_or_default().contains("spiffe://")
}

#[tokio::test(flavor = "multi_thread")]
async fn pkilint_finds_fault_with_no_certificate_of_ours() {
    let drain = CancellationToken::new();
    let _stop = drain.clone().drop_guard();
    let mut chains = Vec::new();
    for key_type in KeyType::ALL {
        let authority = authority(key_type, Hierarchy::Intermediate, &drain).await;
        chains.push((format!("{key_type} all over"), chain(&authority, key_type).await));
    }
    let plain = authority(KeyType::EcP256, Hierarchy::Root, &drain).await;
    for key_type in KeyType::ALL {
        let mut both = chain(&plain, key_type).await;
        if key_type != KeyType::EcP256 {
            both.pop(); // the same root
        }
        chains.push((format!("{key_type} under the root"), both));
    }
    for (of_ca, hierarchy) in [
        (KeyType::EcP384, Hierarchy::Root),
        (KeyType::Rsa3072, Hierarchy::Intermediate),
        (KeyType::Rsa4096, Hierarchy::Root),
    ] {
        let authority = authority(of_ca, hierarchy, &drain).await;
        for key_type in KeyType::ALL {
            chains.push((format!("{key_type} under {of_ca}"), chain(&authority, key_type).await));
        }
    }
    let mut names = Vec::new();
    let mut pairs: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
    for (name, chain) in &chains {
        for (n, certificate) in chain.iter().enumerate() {
            names.push(format!("{name}, certificate {n} of {}", chain.len()));
            pairs.push((certificate, chain.get(n + 1).map(|issuer| &**issuer)));
        }
    }
    let found = lint(&pairs).unwrap();
    let mut spiffe_uris = 0;
    for (name, findings) in names.iter().zip(found) {
        let (known, others): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_of_the_spiffe_uri);
        spiffe_uris += known.len();
        println!("{name}: {others:?}");
        assert!(others.is_empty(), "{name}: {others:#?}");
    }
    assert_eq!(spiffe_uris, pairs.len(), "pkilint reads them now: take the filter out");
}

#[tokio::test(flavor = "multi_thread")]
async fn pkilint_does_find_fault() {
    let drain = CancellationToken::new();
    let _stop = drain.clone().drop_guard();
    let ours = authority(KeyType::EcP256, Hierarchy::Root, &drain).await;
    let chain = chain(&ours, KeyType::EcP256).await;
    let other = authority(KeyType::EcP256, Hierarchy::Root, &drain).await;
    let stranger = other.bundle().borrow().roots[0].clone();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::DnsName("two words".try_into().unwrap())];
    let key = rcgen::KeyPair::generate().unwrap();
    let bad = params.self_signed(&key).unwrap().der().clone();
    let found = lint(&[(&chain[0], Some(&stranger)), (&bad, None)]).unwrap();
    for findings in found {
        assert!(findings.iter().any(|f| f.severity == "ERROR" && !is_of_the_spiffe_uri(f)), "{findings:?}");
    }
}
