//! Our own certificate on the door: the SVID of the server's own ID, the newest for each handshake.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use spiffe_bridge::identity::X509Svid;
use spiffe_bridge::node::OwnIdentity;
use tokio::sync::Notify;

use crate::runtime::{Drain, Guard};

/// What is shown in handshakes; nothing before the first SVID. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ServerCertificate(Arc<Shown>);

#[derive(Debug, Default)]
struct Shown {
    certificate: ArcSwapOption<CertifiedKey>,
    /// Told of each that takes its place.
    changed: Notify,
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.certificate.load_full()
    }
}

/// The task that keeps a [`ServerCertificate`].
#[derive(Debug)]
pub struct Presenter {
    own: OwnIdentity,
    provider: Arc<CryptoProvider>,
    certificate: ServerCertificate,
    starting: Option<Guard>,
}

impl ServerCertificate {
    /// Returns once there is one.
    pub(super) async fn shown(&self) {
        loop {
            let changed = self.0.changed.notified(); // before the look: no change falls between the two
            if self.0.certificate.load().is_some() {
                return;
            }
            changed.await;
        }
    }

    fn show(&self, certificate: Option<CertifiedKey>) {
        self.0.certificate.store(certificate.map(Arc::new));
        self.0.changed.notify_waiters();
    }
}

impl Presenter {
    /// Shows the SVID of `own`, and lets `starting` go once there is one.
    #[must_use]
    pub fn new(
        own: OwnIdentity,
        provider: Arc<CryptoProvider>,
        starting: Guard,
    ) -> (Self, ServerCertificate) {
        let certificate = ServerCertificate::default();
        let presenter = Self { own, provider, certificate: certificate.clone(), starting: Some(starting) };
        (presenter, certificate)
    }

    /// Follows the SVID until the drain.
    ///
    /// # Errors
    /// Never: without an SVID there are no handshakes, and the node says why.
    pub async fn run(mut self, drain: Drain) -> Result<(), Infallible> {
        loop {
            self.show();
            tokio::select! {
                () = drain.begun() => return Ok(()),
                more = self.own.changed() => if !more { return Ok(()) },
            }
        }
    }

    fn show(&mut self) {
        let svid = self.own.svid();
        let certified = svid.as_ref().map(|svid| certified(svid, &self.provider)).transpose();
        match certified {
            Ok(certified) => self.certificate.show(certified),
            // What was shown stays: it is valid for a while.
            Err(error) => tracing::error!(%error, "the server's own certificate cannot be used for TLS"),
        }
        if svid.is_some() {
            self.starting = None;
        }
    }
}

fn certified(svid: &X509Svid, provider: &CryptoProvider) -> Result<CertifiedKey, rustls::Error> {
    let key = PrivatePkcs8KeyDer::from(svid.key.expose_pkcs8()).clone_key();
    let key = provider.key_provider.load_private_key(key.into())?;
    Ok(CertifiedKey::new(svid.chain.clone(), key))
}
