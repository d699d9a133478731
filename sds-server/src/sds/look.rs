//! Where a client stands, level by level: copies for whoever keeps the books.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{ContentHash, Version, WorkloadUpdate};
use spiffe_bridge::roster::Refusal;

use super::nack::Reason;
use super::request::Node;
use super::slot::Slot;
use super::subscription::Subscription;

/// Where a name of one stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The stream.
    pub stream: u64,
    /// Its connection.
    pub connection: u64,
    /// Whether the client said that it held something when the stream began.
    pub has_past: bool,
    /// As the client spells it.
    pub name: Box<str>,
    /// Secrets sent on this stream under the name.
    pub sends: u32,
    /// Those acknowledged.
    pub acks: u32,
    /// Those refused.
    pub nacks: u32,
    /// What was sent last, or what the client said that it holds.
    pub sent: Version,
    /// When.
    pub sent_at: Timestamp,
    /// Whether `sent` was claimed by the client, and not sent.
    pub is_claim: bool,
    /// The client's word on `sent`, and when it came; `None` if there is none yet.
    pub answer: Option<(Result<(), Reason>, Timestamp)>,
    /// What was acknowledged last.
    pub acked: Option<Version>,
}

/// What is special about a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Special {
    /// What was refused, oldest first.
    pub refused: Vec<Refusal>,
    /// The content that goes out in other bytes, and in which.
    pub dress: Option<(ContentHash, u32)>,
    /// The bytes that it went out in, and the content that they are of.
    pub worn: Option<(ContentHash, Version)>,
    /// The content that would go out, had it not been refused.
    pub held_back: Option<Version>,
}

/// Where a client stands.
#[derive(Debug)]
pub struct Look {
    /// Open streams.
    pub streams: usize,
    /// What the client may have, as its streams saw it last.
    pub update: Option<Arc<WorkloadUpdate>>,
    /// Of open streams, by name and stream.
    pub told: Vec<Told>,
    /// Of streams that ended since the last look, by name.
    pub left: Vec<Told>,
    /// Names fetched without a stream since the last look.
    pub fetched: Vec<(Box<str>, Version, Timestamp)>,
    /// By name.
    pub special: BTreeMap<Box<str>, Special>,
    /// Of a remote caller, whose connections need not be of one Envoy.
    pub lines: Lines,
}

/// What is told of connections beside their names.
#[derive(Debug, Default)]
pub struct Lines {
    /// Connections over which more than one node speaks.
    pub mixed: BTreeSet<u64>,
    /// By connection, names that were sent and are available no more.
    pub withdrawn: BTreeSet<(u64, Box<str>)>,
}

impl Lines {
    /// Of all `streams`, each with the number of its connection.
    pub(super) fn of<'a>(streams: impl Iterator<Item = (u64, MutexGuard<'a, Subscription>)>) -> Self {
        let mut lines = Self::default();
        let mut nodes: BTreeMap<u64, Option<Node>> = BTreeMap::new();
        for (connection, engine) in streams {
            let known = nodes.entry(connection).or_default();
            match (&known, engine.node()) {
                (Some(known), Some(node)) if known != node => drop(lines.mixed.insert(connection)),
                (None, Some(node)) => *known = Some(node.clone()),
                _ => {}
            }
            let withdrawn = engine.slots().iter().filter(|slot| slot.sent.is_none() && slot.sends > 0);
            lines.withdrawn.extend(withdrawn.map(|slot| (connection, slot.name.clone())));
        }
        lines
    }
}

impl Told {
    pub(super) fn of((stream, connection): (u64, u64), engine: &Subscription, slot: &Slot) -> Option<Self> {
        let sent = slot.sent.as_ref()?;
        let nacked = slot.nacked.as_deref().filter(|nacked| nacked.version == sent.version);
        let acked = slot.acked.as_ref().filter(|acked| acked.version == sent.version);
        Some(Self {
            stream,
            connection,
            has_past: engine.has_past(),
            name: slot.name.clone(),
            sends: slot.sends,
            acks: slot.acks,
            nacks: slot.nacks,
            sent: sent.version,
            sent_at: sent.at,
            is_claim: sent.nonce == 0,
            answer: match (nacked, acked) {
                (Some(nacked), _) => Some((Err(nacked.reason), nacked.at)),
                (None, Some(acked)) => Some((Ok(()), acked.at)),
                (None, None) => None,
            },
            acked: slot.acked.as_ref().map(|acked| acked.version),
        })
    }
}
