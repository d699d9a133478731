//! A broker: a process that asks on behalf of others, known by the X509-SVID of ours whose key it proved in a TLS
//! handshake. SPIFFE Broker Endpoint §3.1, §5.

use rustls_pki_types::CertificateDer;

use crate::clock::Timestamp;
use crate::identity::{SpiffeId, TrustBundle};
use crate::x509::verify::{Role, VerifyError, verify_until};

/// A broker at the other end of a TLS connection.
#[derive(Debug)]
pub struct BrokerPeer {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
}

impl BrokerPeer {
    /// The one that showed `chain` (leaf first), by the roots of our own trust domain.
    ///
    /// # Errors
    /// [`VerifyError`] if it proves no identity of that domain at `now`.
    pub fn new(
        chain: &[CertificateDer<'_>],
        bundle: &TrustBundle,
        now: Timestamp,
    ) -> Result<Self, VerifyError> {
        let (id, _) = verify_until(chain, [bundle], Role::Client, now)?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Self { id, chain })
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Until when it may be served, if it may be at `now`.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(&self, bundle: &TrustBundle, now: Timestamp) -> Result<Timestamp, VerifyError> {
        verify_until(&self.chain, [bundle], Role::Client, now).map(|(_, until)| until)
    }
}
