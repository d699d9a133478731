//! One leaf with its key, in PEM, against what aws-lc needs for the key and the signature alone.
//!
//! `cargo bench -p integration --bench mint`; for callgrind, `… -- profile` mints only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod common;

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use common::table::{Goal, Table};
use common::{pem, turns};
use data_encoding::Encoding;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate};
use rustls_pki_types::CertificateDer;
use sds_server::sds::check::{Against, judge};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{Revision, SpiffeId, TrustBundle, TrustDomain};
use spiffe_bridge::keys::{KeyId, KeyManager, KeyType, MemoryKeys, PublicKey, workload};
use spiffe_bridge::x509::{self, DnsNames, Draft, Leaf, Template, Validity, inspect, root};

fn main() {
    if !common::asked_for() {
        return;
    }
    let ca = Ca::new();
    if !common::wanted("table") {
        (0..20_000).for_each(|_| drop(black_box(ca.key_and_leaf())));
        return;
    }
    let raw = Raw::new(&ca);
    let mut table = Table::new("mint, CPU of one thread a leaf");
    let mut compare = |what: &str, figure: &dyn Fn(), limit: &dyn Fn(), goal| {
        turns::single(&mut table, what, figure, limit, goal);
    };
    compare(
        "key, leaf, PEM : keygen, SPKI, PKCS#8, sign",
        &|| drop(black_box(ca.key_and_leaf())),
        &|| raw.key_and_sign(),
        Goal::AtLeast(0.95),
    );
    compare(
        "leaf of a key that exists : sign",
        &|| drop(black_box(ca.leaf(&raw.public))),
        &|| raw.sign(),
        Goal::None,
    );
    let (secret, bundle) = ca.secret();
    let against = Against { bundle: Some(&bundle), now: ca.validity.not_before };
    compare(
        "check before it is sent : key, leaf, PEM",
        &|| drop(black_box(judge(secret.clone(), "default", against).unwrap())),
        &|| drop(black_box(ca.key_and_leaf())),
        Goal::None,
    );
    compare(
        "workload::generate : keygen, SPKI, PKCS#8",
        &|| drop(black_box(workload::generate(KeyType::EcP256).unwrap())),
        &|| raw.key(),
        Goal::None,
    );
    compare(
        "PublicKey::from_spki : sign",
        &|| drop(black_box(PublicKey::from_spki(raw.public.spki()).unwrap())),
        &|| raw.sign(),
        Goal::None,
    );
}

/// The primitives alone.
struct Raw {
    signer: EcdsaKeyPair,
    public: PublicKey,
    message: Vec<u8>,
}

impl Raw {
    fn new(ca: &Ca) -> Self {
        let signer = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public = workload::generate(KeyType::EcP256).unwrap().public;
        let message = ca.tbs(&public); // as long as a leaf's
        Self { signer, public, message }
    }

    fn key(&self) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        black_box(pair.to_pkcs8v1().unwrap());
        black_box(pair.public_key().as_der().unwrap());
    }

    fn sign(&self) {
        black_box(self.signer.sign(&SystemRandom::new(), &self.message).unwrap());
    }

    fn key_and_sign(&self) {
        self.key();
        self.sign();
    }
}

/// Our way: a linted template, and a key in a key manager.
struct Ca {
    keys: Box<dyn KeyManager>,
    key: KeyId,
    template: Template,
    validity: Validity,
    spiffe_id: SpiffeId,
    base64: Encoding,
    root: CertificateDer<'static>,
}

impl Ca {
    fn new() -> Self {
        let keys: Box<dyn KeyManager> = Box::new(MemoryKeys::new());
        let key: KeyId = "root".parse().unwrap();
        keys.generate(&key, KeyType::EcP256).unwrap();
        let now = Timestamp::from_unix_seconds(1_780_000_000);
        let validity = Validity { not_before: now, not_after: now + Duration::from_secs(86_400) };
        let trust_domain = TrustDomain::new("bench.test").unwrap();
        let root = root::Root {
            trust_domain: &trust_domain,
            validity,
            depth: 0,
            name_constraints: Default::default(),
        };
        let certificate = root::self_sign(&root, keys.as_ref(), &key).unwrap();
        let facts = inspect::ca(&certificate).unwrap();
        let spiffe_id = SpiffeId::new("spiffe://bench.test/ns/payments/sa/checkout").unwrap();
        let template = x509::lint(Draft::new(&facts), &facts, &spiffe_id).unwrap();
        Self { keys, key, template, validity, spiffe_id, base64: pem::encoding(), root: certificate }
    }

    fn tbs(&self, public_key: &PublicKey) -> Vec<u8> {
        let serial = x509::random_serial().unwrap();
        let (validity, spiffe_id, dns_names) = (self.validity, &self.spiffe_id, &DnsNames::default());
        self.template.tbs(&Leaf { serial: &serial, validity, public_key, spiffe_id, dns_names }).unwrap()
    }

    fn leaf(&self, public_key: &PublicKey) -> Vec<u8> {
        let tbs = self.tbs(public_key);
        let signature = self.keys.sign(&self.key, KeyType::EcP256.certificate_scheme(), &tbs).unwrap();
        x509::assemble(&tbs, KeyType::EcP256, &signature).to_vec()
    }

    /// A secret that passes, and the bundle that it is judged by.
    fn secret(&self) -> (Secret, TrustBundle) {
        let key = workload::generate(KeyType::EcP256).unwrap();
        let inline = |label, der: &[u8]| {
            let mut text = String::new();
            pem::append(&mut text, &self.base64, label, der);
            Some(DataSource {
                specifier: Some(Specifier::InlineBytes(text.into_bytes())),
                ..DataSource::default()
            })
        };
        let tls = TlsCertificate {
            certificate_chain: inline("CERTIFICATE", &self.leaf(&key.public)),
            private_key: inline("PRIVATE KEY", key.private.expose_pkcs8()),
            ..TlsCertificate::default()
        };
        let secret = Secret { name: "default".to_owned(), r#type: Some(Type::TlsCertificate(tls)) };
        let domain = self.spiffe_id.trust_domain().clone();
        (secret, TrustBundle::new(domain, vec![self.root.clone()], Revision(1)))
    }

    /// What node, authority and encoder do for one SVID between them.
    fn key_and_leaf(&self) -> String {
        let key = workload::generate(KeyType::EcP256).unwrap();
        let mut out = String::with_capacity(2048);
        pem::append(&mut out, &self.base64, "CERTIFICATE", &self.leaf(&key.public));
        pem::append(&mut out, &self.base64, "PRIVATE KEY", key.private.expose_pkcs8());
        out
    }
}
