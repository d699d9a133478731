//! The trust bundle of one trust domain.

use rustls_pki_types::CertificateDer;
use spiffe::TrustDomain;

use super::{Memo, Version};

/// The roots under which SVIDs of `trust_domain` are valid. Bundles of different trust domains are
/// never merged (invariant 9).
#[derive(Debug)]
pub struct TrustBundle {
    /// Whose roots these are.
    pub trust_domain: TrustDomain,
    /// CA certificates, DER. Never empty.
    pub roots: Vec<CertificateDer<'static>>,
    /// Revision of its last change, hash of the roots.
    pub version: Version,
    /// What others derived from it.
    pub memo: Memo,
}
