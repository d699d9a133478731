//! What a token is asked for with, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SignError;
use crate::clock::Timestamp;
use crate::identity::{Revision, SpiffeId, Token};
use crate::keys::PublicKey;

/// The longest audience, in bytes: a URL fits, and a record of the audit log stays short.
pub const MAX_AUDIENCE_BYTES: usize = 1024;
/// The most audiences that one token can be allowed to have.
pub const MAX_AUDIENCES: usize = 16;

/// The two kinds of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// JWT-SVID.
    Jwt,
    /// WIT-SVID.
    Wit,
}

impl TokenKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Jwt, Self::Wit];

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Wit => "wit",
        }
    }
}

/// What one token is to say. That the caller is entitled to it was decided before.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// What else it says.
    pub content: TokenContent,
    /// How long it is to be valid; the kind's own lifetime if it does not say.
    pub lifetime: Option<Duration>,
}

/// What a token says beside its subject.
#[derive(Debug, Clone)]
pub enum TokenContent {
    /// A JWT-SVID.
    Jwt {
        /// Whom it is for.
        audience: Vec<String>,
    },
    /// A WIT-SVID.
    Wit {
        /// The holder's public key.
        public_key: PublicKey,
    },
}

impl TokenContent {
    pub(super) const fn kind(&self) -> TokenKind {
        match self {
            Self::Jwt { .. } => TokenKind::Jwt,
            Self::Wit { .. } => TokenKind::Wit,
        }
    }
}

/// A token that was issued, and is on record.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The token.
    pub token: Token,
    /// Its `jti`.
    pub token_id: Arc<str>,
    /// When it was issued.
    pub issued: Timestamp,
    /// From when on it is not valid any more.
    pub not_after: Timestamp,
    /// The store's revision of its audit record.
    pub revision: Revision,
}

/// JWT-SVID §3.2: at least one; and no more than the operator allows, as each may use the token at all others.
///
/// # Errors
/// [`SignError`], the request's fault.
pub fn check_audience(audience: &[String], most: usize) -> Result<(), SignError> {
    if audience.is_empty() {
        return Err(SignError::NoAudience);
    }
    if audience.len() > most {
        return Err(SignError::Audiences { most });
    }
    let fits =
        |text: &String| (1..=MAX_AUDIENCE_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if audience.iter().all(fits) { Ok(()) } else { Err(SignError::Audience) }
}
