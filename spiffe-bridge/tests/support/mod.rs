//! An authority in memory, certificates that break a rule on purpose, and OpenSSL as a second opinion.
#![allow(dead_code, reason = "each test file uses its part")]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use spiffe_bridge::audit::Log;
use spiffe_bridge::authority::{self, Authority, Config, Issued, LeafRequest, SignError};
use spiffe_bridge::clock::{Clock, Hands, Timestamp};
use spiffe_bridge::identity::{Revision, SpiffeId, TrustBundle, TrustDomain};
use spiffe_bridge::keys::{KeyManager, KeyType, MemoryKeys, workload};
use spiffe_bridge::store::{self, Store};
use spiffe_bridge::x509::verify::{Role, VerifyError, verify};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

/// 2026-11-23T22:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_471_200);

pub(crate) struct Ca {
    pub(crate) authority: Authority,
    pub(crate) store: Store,
    pub(crate) keys: Arc<dyn KeyManager>,
    pub(crate) clock: Clock,
    pub(crate) hands: Hands,
    pub(crate) bundle: Arc<TrustBundle>,
    pub(crate) drain: CancellationToken,
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

pub(crate) async fn ca() -> Ca {
    ca_at(NOW, Config::new(domain())).await
}

pub(crate) async fn ca_at(now: Timestamp, config: Config) -> Ca {
    ca_over(now, config, Arc::new(MemoryKeys::new()), in_memory()).await
}

pub(crate) fn in_memory() -> Store {
    let (store, writer) = store::in_memory().unwrap();
    std::thread::spawn(move || writer.run());
    store
}

pub(crate) async fn ca_over(now: Timestamp, config: Config, keys: Arc<dyn KeyManager>, store: Store) -> Ca {
    let (clock, hands) = Clock::manual(now);
    authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
    let log = Log::open(store.clone(), clock.clone()).unwrap();
    authority::complete(&config, keys.clone(), &store, &log).await.unwrap();
    let (authority, issuer) =
        authority::open(config, keys.clone(), store.clone(), log, clock.clone()).unwrap();
    let drain = CancellationToken::new();
    tokio::spawn(issuer.run(drain.clone()));
    let bundle = authority.bundle().borrow().clone();
    Ca { authority, store, keys, clock, hands, bundle, drain }
}

pub(crate) fn request(id: &str) -> LeafRequest {
    LeafRequest {
        spiffe_id: SpiffeId::new(id).unwrap(),
        dns_names: Vec::new(),
        public_key: workload::generate(KeyType::EcP256).unwrap().public,
        lifetime: None,
    }
}

impl Ca {
    pub(crate) async fn issue(&self, id: &str) -> Issued {
        self.authority.sign(request(id)).await.unwrap()
    }

    pub(crate) async fn refuse(&self, request: LeafRequest) -> SignError {
        self.authority.sign(request).await.unwrap_err()
    }

    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        &self.bundle.roots[0]
    }

    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<SpiffeId, VerifyError> {
        verify(chain, [&*self.bundle], Role::Client, self.clock.now())
    }
}

pub(crate) fn parsed<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    let (rest, certificate) = X509Certificate::from_der(der.as_ref()).unwrap();
    assert!(rest.is_empty());
    certificate
}

/// A CA and leaf that rcgen makes, as right as ours, for tests to break.
pub(crate) struct Hostile {
    pub(crate) ca: CertificateParams,
    pub(crate) leaf: CertificateParams,
    pub(crate) ca_key: KeyPair,
    pub(crate) leaf_key: KeyPair,
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.to_owned().try_into().unwrap())
}

fn params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let at = |t: Timestamp| time::OffsetDateTime::from_unix_timestamp(t.unix_seconds() as i64).unwrap();
    params.not_before = at(NOW - Duration::from_secs(300));
    params.not_after = at(NOW + Duration::from_secs(3600));
    params.serial_number = Some(SerialNumber::from_slice(&[0x41; 16]));
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(id)];
    params
}

impl Hostile {
    pub(crate) fn new() -> Self {
        let mut ca = params("spiffe://example.org");
        ca.distinguished_name.push(DnType::CommonName, "hostile");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut leaf = params("spiffe://example.org/web");
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        Self { ca, leaf, ca_key: KeyPair::generate().unwrap(), leaf_key: KeyPair::generate().unwrap() }
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.ca.self_signed(&self.ca_key).unwrap().der().clone()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let issuer = rcgen::Issuer::from_params(&self.ca, &self.ca_key);
        vec![self.leaf.signed_by(&self.leaf_key, &issuer).unwrap().der().clone()]
    }

    pub(crate) fn verify(&self) -> Result<SpiffeId, VerifyError> {
        verify(&self.chain(), [&bundle("example.org", vec![self.root()])], Role::Client, NOW)
    }
}

pub(crate) fn bundle(domain: &str, roots: Vec<CertificateDer<'static>>) -> TrustBundle {
    let trust_domain = TrustDomain::new(domain).unwrap();
    TrustBundle::new(trust_domain, roots, Revision::default())
}

/// What a hostile pair is judged to be once `change` was made to it; without it, it is good.
pub(crate) fn hostile(change: impl FnOnce(&mut Hostile)) -> Result<SpiffeId, VerifyError> {
    let mut pair = Hostile::new();
    pair.verify().expect("unchanged, the pair is good");
    change(&mut pair);
    pair.verify()
}

#[track_caller]
pub(crate) fn assert_breaks(result: Result<SpiffeId, VerifyError>, clause: &str) {
    match result {
        Err(VerifyError::NotAnSvid { rule }) => assert!(rule.contains(clause), "{rule}"),
        other => panic!("expected a breach of {clause}, found {other:?}"),
    }
}

pub(crate) fn pem(der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Runs `openssl` with these arguments; "leaf" and "root" stand for files with the certificates.
pub(crate) fn openssl(args: &[&str], leaf: &[u8], root: &[u8]) -> (bool, String) {
    let files = tempfile::tempdir().unwrap();
    let (leaf_file, root_file) = (files.path().join("leaf"), files.path().join("root"));
    std::fs::write(&leaf_file, pem(leaf)).unwrap();
    std::fs::write(&root_file, pem(root)).unwrap();
    let output = Command::new("openssl").args(args).current_dir(files.path()).output();
    let output = output.expect("these tests need openssl: apt-get install openssl");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Has OpenSSL verify a chain, leaf first, under `root`.
pub(crate) fn openssl_verify_chain(
    chain: &[CertificateDer<'_>],
    root: &[u8],
    at: Timestamp,
    purpose: &str,
) -> (bool, String) {
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(files.path().join(name), text).unwrap();
    write("root", pem(root));
    write("leaf", pem(&chain[0]));
    write("untrusted", chain[1..].iter().map(|der| pem(der)).collect());
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-attime", &at.unix_seconds().to_string(), "-purpose", purpose]);
    if chain.len() > 1 {
        command.args(["-untrusted", "untrusted"]); // a file without any is an error to it
    }
    command.args(["-CAfile", "root", "leaf"]).current_dir(files.path());
    let output = command.output().expect("these tests need openssl: apt-get install openssl");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub(crate) fn openssl_verify(leaf: &[u8], root: &[u8], at: Timestamp, purpose: &str) -> (bool, String) {
    openssl_verify_chain(&[CertificateDer::from(leaf)], root, at, purpose)
}
