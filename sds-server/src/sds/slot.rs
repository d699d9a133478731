//! Where one name of a stream stands.

use std::time::Duration;

use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{Revision, Version, WorkloadUpdate};

use super::check::CheckError;
use super::nack::Reason;
use super::secret::{Place, Resource};

/// When a name is next to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// As soon as there is an answer: it was asked for, and the question is open.
    Now,
    /// Likewise, unless the client's own claim to hold the current version is true. XD-23.
    Claimed(Box<str>),
    /// When the content changes.
    OnChange,
}

/// What was sent last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) version: Version,
    /// Count of its nonce; 0 if it was not sent, because the client holds it.
    pub(super) nonce: u64,
    pub(super) at: Timestamp,
    /// The first verdict stands: after a NACK Envoy shows the same nonce again, without the error, when its
    /// names change.
    pub(super) answered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) version: Version,
    pub(super) at: Timestamp,
    pub(super) took: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nacked {
    pub(super) version: Version,
    pub(super) at: Timestamp,
    pub(super) reason: Reason,
}

/// A name and what has been said about it.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) name: Box<str>,
    pub(super) due: Due,
    pub(super) sent: Option<Sent>,
    pub(super) acked: Option<Acked>,
    /// Why the newest is not sent.
    pub(super) withheld: Option<CheckError>,
    /// The certificate that was sent, and its place among the caller's: while it stands there nothing has changed.
    pub(super) of: Option<Place>,
    // Boxed: rare, and ten thousand streams have the room for it.
    pub(super) nacked: Option<Box<Nacked>>,
    /// Secrets sent, acknowledged and refused, on this stream.
    pub(super) sends: u32,
    pub(super) acks: u32,
    pub(super) nacks: u32,
}

impl Slot {
    pub(super) fn new(name: Box<str>) -> Self {
        Self {
            name,
            due: Due::Now,
            sent: None,
            acked: None,
            withheld: None,
            of: None,
            nacked: None,
            sends: 0,
            acks: 0,
            nacks: 0,
        }
    }

    /// Whether the very certificate that was sent still stands where it stood: a stream with a thousand names looks at
    /// each of them at every change of one.
    pub(super) fn is_as_sent(&self, update: &WorkloadUpdate, now: Timestamp) -> bool {
        self.of.is_some_and(|of| of.is_in(update, now))
            && self.due == Due::OnChange
            && self.sent.is_some()
            && self.withheld.is_none()
    }

    /// Whether `resource` is to be sent.
    pub(super) fn wants(&self, resource: &Resource) -> bool {
        let hash = resource.version().hash;
        // The same bytes again would be ACKed by Envoy and not applied (envoy-sds.md §0.2): XD-06. The hash and
        // not the version: a new revision of the same content changes nothing (XD-08).
        if self.nacked.as_ref().is_some_and(|nacked| nacked.version.hash == hash) {
            return false;
        }
        self.due != Due::OnChange || self.sent.as_ref().is_none_or(|sent| sent.version.hash != hash)
    }

    /// Believes the client's claim if it is of the very content that we would send. XD-23. The revision may differ:
    /// that of a secret made of several ingredients is known only from when it last changed before our eyes.
    pub(super) fn holds(&mut self, resource: &Resource, now: Timestamp) -> bool {
        let Due::Claimed(claim) = &self.due else { return false };
        let claimed = claim.split_once('-').filter(|(_, hash)| *hash == resource.version().hash.to_string());
        let Some(revision) = claimed.and_then(|(revision, _)| revision.parse().ok()) else {
            self.due = Due::Now;
            return false;
        };
        let version = Version { revision: Revision(revision), hash: resource.version().hash };
        self.due = Due::OnChange;
        self.sent = Some(Sent { version, nonce: 0, at: now, answered: true });
        self.acked = Some(Acked { version, at: now, took: Duration::ZERO });
        true
    }

    pub(super) fn send(&mut self, version: Version, nonce: u64, at: Timestamp) {
        self.due = Due::OnChange;
        self.sends = self.sends.wrapping_add(1);
        self.sent = Some(Sent { version, nonce, at, answered: false });
    }

    /// Notes that the name has no content now; `true` if that is news for the client.
    pub(super) fn withdraw(&mut self) -> bool {
        let news = self.due != Due::OnChange || self.sent.is_some();
        self.of = None;
        self.due = Due::OnChange;
        self.sent = None;
        news
    }

    /// Notes the client's verdict on what was sent; `None` if it gave one before.
    pub(super) fn answer(&mut self, error: Option<Reason>, now: Timestamp) -> Option<Duration> {
        let sent = self.sent.as_mut().filter(|sent| !sent.answered)?;
        sent.answered = true;
        let (version, took) = (sent.version, now.since(sent.at));
        match error {
            Some(reason) => {
                self.nacks = self.nacks.wrapping_add(1);
                self.nacked = Some(Box::new(Nacked { version, at: now, reason }));
            }
            None => {
                self.acks = self.acks.wrapping_add(1);
                self.acked = Some(Acked { version, at: now, took });
            }
        }
        Some(took)
    }
}
