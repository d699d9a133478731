//! One identity, or one token of it: what is held, when it is renewed, and what went wrong last.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::tokens::{TokenShown, TokenSpec};
use super::view::ViewId;
use crate::clock::Timestamp;
use crate::identity::{ContentHash, SpiffeId, TokenSvid, X509Svid};
use crate::registration::{Entry, EntryIndex, Terms};

/// All that decides what an SVID says. Entries that agree in it share one SVID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spec {
    pub(super) spiffe_id: String,
    pub(super) dns_names: Vec<String>,
    /// What the entry's profile says, not its name: a profile that is renamed changes no SVID.
    pub(super) terms: Terms,
    /// A token of the identity, and not its X509-SVID.
    pub(super) token: Option<TokenSpec>,
}

impl Spec {
    /// What `entry` asks for under the profiles of `index`.
    pub(super) fn of(entry: &Entry, index: &EntryIndex) -> Self {
        let (spiffe_id, dns_names) = (entry.spiffe_id.to_string(), entry.dns_names.clone());
        Self { spiffe_id, dns_names, terms: index.terms(entry), token: None }
    }

    /// A token of `spiffe_id`.
    pub(super) fn token(spiffe_id: &SpiffeId, token: TokenSpec) -> Self {
        let (dns_names, terms) = (Vec::new(), Terms::default());
        Self { spiffe_id: spiffe_id.to_string(), dns_names, terms, token: Some(token) }
    }

    /// Names the spec's record in the cache. One without a profile has the name that versions before profiles gave it.
    pub(super) fn hash(&self) -> ContentHash {
        let mut parts = vec![self.spiffe_id.as_bytes()];
        parts.extend(self.dns_names.iter().map(String::as_bytes));
        let seconds = self.terms.lifetime.unwrap_or_default().as_secs().to_be_bytes();
        if self.terms != Terms::default() {
            // No DNS name is empty: what follows is told from one.
            parts.extend([&[], self.terms.key_type.as_str().as_bytes(), &seconds]);
        }
        ContentHash::of(&parts)
    }
}

/// An SVID of whichever kind: they are renewed alike.
#[derive(Debug, Clone)]
pub(super) enum Credential {
    X509(Arc<X509Svid>),
    Token(Arc<TokenSvid>),
}

impl Credential {
    /// The last second in which it is valid.
    pub(super) fn not_after(&self) -> Timestamp {
        match self {
            Self::X509(svid) => svid.not_after,
            // "on or after which" it is not: RFC 7519 §4.1.4.
            Self::Token(svid) => svid.not_after - Duration::from_secs(1),
        }
    }

    pub(super) fn x509(&self) -> Option<&Arc<X509Svid>> {
        match self {
            Self::X509(svid) => Some(svid),
            Self::Token(_) => None,
        }
    }

    /// Octets that were drawn at random when it was issued, and stay the same.
    pub(super) fn random(&self) -> &[u8] {
        match self {
            Self::X509(svid) => svid.serial.octets(),
            Self::Token(svid) => svid.token_id.as_bytes(),
        }
    }
}

/// What names it in the audit log.
impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X509(svid) => svid.serial.fmt(f),
            Self::Token(svid) => svid.token_id.fmt(f),
        }
    }
}

/// An SVID and the moment that it was given out.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) svid: Credential,
    pub(super) issued: Timestamp,
}

/// What a slot waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "states are named by what they wait for")]
pub(super) enum Phase {
    /// For its time to be renewed, or for somebody to want it.
    ExpectRenewal,
    /// For a place among the signatures in flight.
    ExpectTurn,
    /// For the authority's answer.
    ExpectSignature,
}

/// One identity of this node.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) spiffe_id: SpiffeId,
    pub(super) held: Option<Held>,
    pub(super) phase: Phase,
    /// When the timer looks at it next; `None` while nobody wants it.
    pub(super) due: Option<Timestamp>,
    /// Failures since the last success.
    pub(super) failures: u32,
    pub(super) last_error: Option<String>,
    /// Who is served from it.
    pub(super) views: BTreeSet<ViewId>,
    /// Who follows it, if it is a token.
    pub(super) followers: watch::Sender<TokenShown>,
}

impl Slot {
    pub(super) fn new(spiffe_id: SpiffeId, held: Option<Held>) -> Self {
        Self {
            spiffe_id,
            held,
            phase: Phase::ExpectRenewal,
            due: None,
            failures: 0,
            last_error: None,
            views: BTreeSet::new(),
            followers: watch::Sender::default(),
        }
    }

    /// Whether anybody is served from it: what nobody wants is not renewed.
    pub(super) fn is_wanted(&self) -> bool {
        !self.views.is_empty() || self.followers.receiver_count() > 0
    }

    /// The SVID, if it is still valid.
    pub(super) fn valid(&self, now: Timestamp) -> Option<&Credential> {
        self.held.as_ref().map(|held| &held.svid).filter(|svid| svid.not_after() > now)
    }

    /// Whether its first answer, good or bad, is still to come.
    pub(super) fn undecided(&self, now: Timestamp) -> bool {
        self.valid(now).is_none() && self.failures == 0
    }
}
