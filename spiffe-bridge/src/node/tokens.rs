//! Tokens of an identity as they are asked for and followed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pace::TOKENS_PER_SECOND;
use crate::clock::{Clock, Timestamp};
use crate::identity::TokenSvid;

/// The most tokens of one identity at one time: a caller chooses audiences freely. Invariant 11.
pub const MAX_TOKENS_PER_IDENTITY: usize = 256;
/// How long the first answer may take. Signing takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which token of an identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenSpec {
    /// A JWT-SVID for these audiences. The order counts: it is the token's.
    Jwt {
        /// At least one.
        audience: Vec<String>,
    },
    /// The identity's WIT-SVID.
    Wit,
}

/// What is there of a token.
#[derive(Debug, Clone, Default)]
pub(super) enum TokenShown {
    /// It is being issued for the first time.
    #[default]
    Undecided,
    /// The newest, and when the next is due.
    Held(Arc<TokenSvid>, Timestamp),
    /// There is none that is valid, and the last try failed.
    Failed,
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefused {
    /// The server is shutting down, or the identity is gone.
    #[error("the identity is gone, or the server is shutting down")]
    Closed,
    /// Invariant 11.
    #[error("{MAX_TOKENS_PER_IDENTITY} tokens of this identity are in use: ask for fewer audiences")]
    TooMany,
    /// Invariant 11.
    #[error(
        "new tokens of this identity are asked for faster than {TOKENS_PER_SECOND} a second, which its callers share: use one again until it ends, or come again"
    )]
    TooFast,
    /// It could not be issued, or not in time.
    #[error("the token cannot be issued yet: come again")]
    Failed,
}

/// Follows a token. While it lives, the token is renewed ahead of its end.
#[derive(Debug, Clone)]
pub struct TokenFollower {
    shown: watch::Receiver<TokenShown>,
    clock: Clock,
}

impl TokenFollower {
    pub(super) fn new(shown: watch::Receiver<TokenShown>, clock: Clock) -> Self {
        Self { shown, clock }
    }

    /// The token that is valid now, if there is one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<TokenSvid>> {
        match &*self.shown.borrow() {
            TokenShown::Held(svid, _) if svid.not_after > self.clock.now() => Some(svid.clone()),
            _ => None,
        }
    }

    /// A token that is not due to be renewed, once there is one; one that is valid if that fails.
    ///
    /// # Errors
    /// [`TokenRefused`].
    pub async fn fresh(mut self) -> Result<Arc<TokenSvid>, TokenRefused> {
        let now = self.clock.now();
        let settled = self.shown.wait_for(|shown| match shown {
            TokenShown::Undecided => false,
            TokenShown::Held(_, due) => *due > now,
            TokenShown::Failed => true,
        });
        let closed = match tokio::time::timeout(PATIENCE, settled).await {
            Ok(settled) => settled.is_err(),
            Err(_) => false,
        };
        if closed {
            return Err(TokenRefused::Closed); // an identity that is gone leaves no token behind
        }
        self.current().ok_or(TokenRefused::Failed)
    }

    /// Whether its identity is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.shown.has_changed().is_err()
    }

    /// Takes what is there now for seen.
    pub(super) fn mark_seen(&mut self) {
        self.shown.mark_unchanged();
    }

    /// Waits for a change; false when there will be none any more. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        self.shown.changed().await.is_ok()
    }
}
