//! One identity: its SVID, when it is renewed, and what went wrong last.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::view::ViewId;
use crate::clock::Timestamp;
use crate::identity::{ContentHash, SpiffeId, X509Svid};
use crate::registration::Entry;

/// All that decides what an SVID says. Entries that agree in it share one SVID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spec {
    pub(super) spiffe_id: String,
    pub(super) dns_names: Vec<String>,
}

impl Spec {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { spiffe_id: entry.spiffe_id.to_string(), dns_names: entry.dns_names.clone() }
    }

    /// Names the spec's record in the cache.
    pub(super) fn hash(&self) -> ContentHash {
        let mut parts = vec![self.spiffe_id.as_bytes()];
        parts.extend(self.dns_names.iter().map(String::as_bytes));
        ContentHash::of(&parts)
    }
}

/// An SVID and the moment that it was given out.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) svid: Arc<X509Svid>,
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
}

impl Slot {
    pub(super) fn new(spiffe_id: SpiffeId, held: Option<Held>) -> Self {
        let views = BTreeSet::new();
        Self { spiffe_id, held, phase: Phase::ExpectRenewal, due: None, failures: 0, last_error: None, views }
    }

    /// The SVID, if it is still valid.
    pub(super) fn valid(&self, now: Timestamp) -> Option<&Arc<X509Svid>> {
        self.held.as_ref().map(|held| &held.svid).filter(|svid| svid.not_after > now)
    }

    /// Whether its first answer, good or bad, is still to come.
    pub(super) fn undecided(&self, now: Timestamp) -> bool {
        self.valid(now).is_none() && self.failures == 0
    }
}
