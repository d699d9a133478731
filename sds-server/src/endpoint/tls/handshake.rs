//! TLS 1.3 as the server: who may finish a handshake.

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use spiffe_bridge::attest::RemoteTrust;
use spiffe_bridge::identity::TrustBundle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::ServerCertificate;

const H2: &[u8] = b"h2";

/// Why a handshake brought no peer. The peer's fault, but for `Config`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the handshake failed")]
    Tls(#[source] io::Error),
    #[error("the client does not offer h2 by ALPN")]
    NoHttp2,
    #[error("no TLS can be spoken with these CAs")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Whose certificates open a door.
pub trait Authorities: Send + Sync + 'static {
    /// The CAs.
    fn authorities(&self) -> &[CertificateDer<'static>];
}

impl Authorities for RemoteTrust {
    fn authorities(&self) -> &[CertificateDer<'static>] {
        self.certificates()
    }
}

/// Our own: the door is for whom we issued to.
impl Authorities for TrustBundle {
    fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }
}

/// Makes the configuration of handshakes from what is trusted and shown now.
pub struct Handshakes<T> {
    provider: Arc<CryptoProvider>,
    trust: watch::Receiver<Arc<T>>,
    certificate: ServerCertificate,
    made: Option<Arc<ServerConfig>>,
}

/// How one handshake goes.
#[derive(Clone)]
pub(crate) struct Terms(Arc<ServerConfig>);

impl<T: Authorities> Handshakes<T> {
    /// Handshakes with whom `trust` knows, in which `certificate` is shown.
    #[must_use]
    pub fn new(
        provider: Arc<CryptoProvider>,
        trust: watch::Receiver<Arc<T>>,
        certificate: ServerCertificate,
    ) -> Self {
        Self { provider, trust, certificate, made: None }
    }

    /// Returns once there is a certificate to show.
    pub(crate) async fn ready(&self) {
        self.certificate.shown().await;
    }

    /// The terms of a handshake that begins now. One that began under others is looked at again when it is over, by
    /// whoever admits the peer.
    pub(crate) fn terms(&mut self) -> Result<Terms, HandshakeError> {
        if self.trust.has_changed().unwrap_or(false) {
            self.made = None;
        }
        if let Some(made) = &self.made {
            return Ok(Terms(made.clone()));
        }
        let trust = self.trust.borrow_and_update().clone();
        let made = Arc::new(self.config(&trust).map_err(HandshakeError::Config)?);
        self.made = Some(made.clone());
        Ok(Terms(made))
    }

    fn config(&self, trust: &T) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = RootCertStore::empty();
        for certificate in trust.authorities() {
            roots.add(certificate.clone())?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, self.provider.clone()).build()?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(self.certificate.clone()));
        config.alpn_protocols = vec![H2.to_vec()];
        // A resumed session is one whose certificate nobody looks at: the library keeps the chain in the ticket.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl<T> std::fmt::Debug for Handshakes<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handshakes(..)")
    }
}

impl Terms {
    /// Shakes hands on `stream`.
    pub(crate) async fn shake<I>(self, stream: I) -> Result<TlsStream<I>, HandshakeError>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.0).accept(stream).await.map_err(HandshakeError::Tls)?;
        match stream.get_ref().1.alpn_protocol() {
            Some(H2) => Ok(stream),
            _ => Err(HandshakeError::NoHttp2),
        }
    }
}
