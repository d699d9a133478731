//! The trust bundle of one trust domain.

use rustls_pki_types::CertificateDer;
use spiffe::TrustDomain;

use super::{ContentHash, Memo, Revision, Version};

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

impl TrustBundle {
    /// The bundle of `roots` as of `revision`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, roots: Vec<CertificateDer<'static>>, revision: Revision) -> Self {
        let parts: Vec<&[u8]> = roots.iter().map(AsRef::as_ref).collect();
        let version = Version { revision, hash: ContentHash::of(&parts) };
        Self { trust_domain, roots, version, memo: Memo::default() }
    }
}
