//! Those who must not get in: TLS clients with no certificate, or with one that nobody should trust.

mod trusting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::extensions::GeneralName;

use crate::ca::Ca;
use crate::http;

/// A certificate chain, leaf first, and its key.
#[derive(Debug)]
pub struct Credential {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Credential {
    /// When the leaf stops being valid, in seconds since 1970.
    ///
    /// # Errors
    /// The leaf is not a certificate.
    pub fn not_after(&self) -> Result<u64> {
        let leaf = self.chain.first().context("an empty chain")?;
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf)?;
        Ok(u64::try_from(leaf.validity().not_after.timestamp())?)
    }
}

/// A certificate authority that no server of ours has heard of.
pub struct RogueCa(Ca);

impl RogueCa {
    /// For `trust_domain`, which it has no right to.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(trust_domain: &str) -> Result<Self> {
        Ca::new("rogue", Some(&format!("spiffe://{trust_domain}"))).map(Self)
    }

    /// A leaf that is right in everything but who signed it.
    ///
    /// # Errors
    /// No key can be made.
    pub fn svid(&self, id: &str) -> Result<Credential> {
        self.0.issue(id, Duration::from_secs(3600))
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub enum Attempt {
    /// An answer, with its body: the caller was let in.
    Answered(String),
    /// No answer. In TLS 1.3 a client often learns no more than that the connection is gone.
    Refused(String),
}

impl Attempt {
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// A GET over TLS 1.3 with `credential`, or with none; whoever answers is believed.
///
/// # Errors
/// Nobody listens there, or the credential cannot be used at all: no proof of a refusal.
pub async fn call(to: SocketAddr, credential: Option<&Credential>) -> Result<Attempt> {
    Ok(meet(to, "countersign.test", credential).await?.0)
}

/// The same for a server name, with the SPIFFE IDs in the certificate that was shown for it.
///
/// # Errors
/// As [`call`]; also if neither an answer nor a refusal comes in time.
pub async fn meet(
    to: SocketAddr,
    name: &str,
    credential: Option<&Credential>,
) -> Result<(Attempt, Vec<String>)> {
    let config = Arc::new(client(credential)?);
    let name = ServerName::try_from(name.to_owned())?;
    let mut tries = 2;
    loop {
        let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
        let request = http::get("/", &[])?;
        let mut shown = Vec::new();
        let attempt = async {
            let stream = TlsConnector::from(config.clone()).connect(name.clone(), stream).await?;
            let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            shown = leaf.map(uris).unwrap_or_default();
            http::exchange(stream, request).await
        };
        tries -= 1;
        match tokio::time::timeout(Duration::from_secs(5), attempt).await {
            Ok(attempt) => return Ok((outcome(attempt), shown)),
            // Once in CI a client heard nothing of a refusal that Envoy had logged, and why was not found out. It proves
            // nothing either way.
            Err(late) if tries == 0 => return Err(late.into()),
            Err(_) => {}
        }
    }
}

/// The URIs that a certificate is for.
pub(crate) fn uris(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, leaf)) = x509_parser::parse_x509_certificate(leaf) else { return Vec::new() };
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

/// A GET in clear, where TLS is expected.
///
/// # Errors
/// Nobody listens there.
pub async fn call_in_clear(to: SocketAddr) -> Result<Attempt> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
    Ok(outcome(http::exchange(stream, http::get("/", &[])?).await))
}

/// The certificates that a server shows, leaf first.
///
/// # Errors
/// Nobody listens there, or the handshake fails.
pub async fn shown(to: SocketAddr) -> Result<Vec<CertificateDer<'static>>> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
    let name = ServerName::try_from("countersign.test")?;
    let stream = TlsConnector::from(Arc::new(client(None)?)).connect(name, stream).await?;
    let chain = stream.get_ref().1.peer_certificates().context("it showed none")?;
    Ok(chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
}

fn outcome(answer: Result<::http::Response<bytes::Bytes>>) -> Attempt {
    match answer {
        Ok(answer) => Attempt::Answered(String::from_utf8_lossy(answer.body()).into_owned()),
        Err(refused) => Attempt::Refused(format!("{refused:#}")),
    }
}

/// How a client shakes hands that shows `credential`, or nothing, by TLS 1.3; whoever answers is believed.
///
/// # Errors
/// The credential cannot be used at all.
pub fn client(credential: Option<&Credential>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trusting::Trusting(provider)));
    Ok(match credential {
        Some(held) => config.with_client_auth_cert(held.chain.clone(), held.key.clone_key())?,
        None => config.with_no_client_auth(),
    })
}
