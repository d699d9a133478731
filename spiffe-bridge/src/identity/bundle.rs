//! The trust bundle of one trust domain.

use rustls_pki_types::CertificateDer;
use spiffe::TrustDomain;

use super::token_key::TokenKeys;
use super::{ContentHash, Memo, Revision, Version};

/// The roots and keys under which SVIDs of `trust_domain` are valid. Bundles of different trust domains are
/// never merged (invariant 9).
#[derive(Debug)]
pub struct TrustBundle {
    /// Whose roots these are.
    pub trust_domain: TrustDomain,
    /// CA certificates, DER. Never empty.
    pub roots: Vec<CertificateDer<'static>>,
    /// Keys of JWT-SVIDs and WIT-SVIDs. May be empty: then no token of this domain is valid.
    pub tokens: TokenKeys,
    /// Revision of its last change, hash of roots and keys.
    pub version: Version,
    /// What others derived from it.
    pub memo: Memo,
}

impl TrustBundle {
    /// The bundle of `roots` as of `revision`, without keys of tokens.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, roots: Vec<CertificateDer<'static>>, revision: Revision) -> Self {
        let version = Version { revision, hash: ContentHash::default() };
        let bundle =
            Self { trust_domain, roots, tokens: TokenKeys::default(), version, memo: Memo::default() };
        bundle.with_tokens(TokenKeys::default())
    }

    /// The same with `tokens`.
    #[must_use]
    pub fn with_tokens(mut self, tokens: TokenKeys) -> Self {
        let mut parts: Vec<&[u8]> = self.roots.iter().map(AsRef::as_ref).collect();
        for (kind, keys) in [("jwt", &tokens.jwt), ("wit", &tokens.wit)] {
            parts.extend(keys.iter().flat_map(|key| [[kind.as_bytes()].as_slice(), &key.parts()].concat()));
        }
        self.version.hash = ContentHash::of(&parts);
        self.tokens = tokens;
        self.memo = Memo::default();
        self
    }
}
