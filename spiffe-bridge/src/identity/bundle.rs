//! The trust bundle of one trust domain.

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use spiffe::TrustDomain;

use super::token_key::TokenKeys;
use super::{ContentHash, Memo, Revision, Version};

/// The roots and keys under which SVIDs of `trust_domain` are valid. Bundles of different trust domains are
/// never merged (invariant 9).
#[derive(Debug)]
pub struct TrustBundle {
    /// Whose roots these are.
    pub trust_domain: TrustDomain,
    /// CA certificates, DER. Never empty for our own; another's may say that nobody of it is trusted. Bundle §4.1.3.
    pub roots: Vec<CertificateDer<'static>>,
    /// CRLs, DER: one of each root at least, or none at all. They may have run out since.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// Keys of JWT-SVIDs and WIT-SVIDs. May be empty: then no token of this domain is valid.
    pub tokens: TokenKeys,
    /// Revision of its last change, hash of roots, CRLs and keys.
    pub version: Version,
    /// What others derived from it.
    pub memo: Memo,
}

impl TrustBundle {
    /// The bundle of `roots` as of `revision`, without CRLs and keys of tokens.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, roots: Vec<CertificateDer<'static>>, revision: Revision) -> Self {
        let version = Version { revision, hash: ContentHash::default() };
        let (crls, tokens, memo) = Default::default();
        Self { trust_domain, roots, crls, tokens, version, memo }.anew()
    }

    /// The same with `tokens`.
    #[must_use]
    pub fn with_tokens(mut self, tokens: TokenKeys) -> Self {
        self.tokens = tokens;
        self.anew()
    }

    /// The same with `crls`.
    #[must_use]
    pub fn with_crls(mut self, crls: Vec<CertificateRevocationListDer<'static>>) -> Self {
        self.crls = crls;
        self.anew()
    }

    /// Its hash by what it holds now, and nothing derived yet.
    fn anew(mut self) -> Self {
        let mut parts: Vec<&[u8]> = self.roots.iter().map(AsRef::as_ref).collect();
        for (kind, keys) in [("jwt", &self.tokens.jwt), ("wit", &self.tokens.wit)] {
            parts.extend(keys.iter().flat_map(|key| [[kind.as_bytes()].as_slice(), &key.parts()].concat()));
        }
        parts.extend(self.crls.iter().flat_map(|crl| [b"crl".as_slice(), crl.as_ref()]));
        self.version.hash = ContentHash::of(&parts);
        self.memo = Memo::default();
        self
    }
}
