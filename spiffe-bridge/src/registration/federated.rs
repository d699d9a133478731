//! The trust bundle of another trust domain, as an operator declares it.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use spiffe::TrustDomain;

use crate::identity::TokenKeys;

/// What a `TrustDomain` document says, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct FederatedBundle {
    /// Whose bundle it is. Never our own.
    pub trust_domain: TrustDomain,
    /// CA certificates, DER. None if its bundle document says so: nobody of it is let in then. Bundle §4.1.3.
    pub roots: Vec<CertificateDer<'static>>,
    /// CRLs, DER: one of each root at least, or none at all. They may have run out since.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// Keys of tokens. None in PEM.
    pub tokens: TokenKeys,
    /// `spiffe_sequence` of a SPIFFE bundle document; `None` for PEM.
    pub sequence: Option<u64>,
    /// The name of the file that it stands in.
    pub source: Arc<str>,
}

impl fmt::Debug for FederatedBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FederatedBundle({}, {} roots)", self.trust_domain, self.roots.len())
    }
}
