//! JWT-SVIDs and WIT-SVIDs as they are held for their workloads.

use std::fmt;
use std::sync::Arc;

use spiffe::SpiffeId;
use zeroize::Zeroizing;

use super::{Memo, PrivateKey, Version};
use crate::clock::Timestamp;

/// A signed token: whoever has it is who it names. Wiped when dropped, and prints nothing.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes over a compact JWS.
    #[must_use]
    pub fn from_text(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The token itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose_text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A JWT-SVID, or a WIT-SVID with its key. JWT-SVID.md, WIT-SVID.md.
#[derive(Debug)]
pub struct TokenSvid {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// The token.
    pub token: Token,
    /// The key that a WIT-SVID names; `None` for a JWT-SVID, which is nobody's but its bearer's.
    pub key: Option<PrivateKey>,
    /// Names it in the audit log: `jti`.
    pub token_id: Arc<str>,
    /// When it was issued.
    pub issued: Timestamp,
    /// From when on it is not valid any more.
    pub not_after: Timestamp,
    /// Revision of the issuance, hash of token and key.
    pub version: Version,
    /// What others derived from it.
    pub memo: Memo,
}
