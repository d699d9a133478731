//! Where one name of one holder stands, and what is reported of it.

use serde::{Deserialize, Serialize};

use super::HolderKey;
use crate::clock::Timestamp;
use crate::identity::{ContentHash, Version};

/// Refused contents that are remembered of one name. A client that refuses more than these in a row is refusing
/// everything: the oldest is forgotten, and would be refused again.
pub(super) const REFUSALS: usize = 16;

/// How sure it is that a holder uses what it was sent. Not an order of quality: a refusal is as sure as a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Sent, not answered.
    Sent,
    /// Refused, and in use nowhere.
    Refused,
    /// The holder said that it took it; nothing bears it out.
    Acknowledged,
    /// In use in some places and not in others, or it cannot be told.
    PossiblyApplied,
    /// In use everywhere.
    ProvedApplied,
}

/// By which means a [`Standing`] is known. Kinds of proof are never mixed up (rotation.md, "Kinds of proof").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// It was sent, and that is all.
    Sending,
    /// The holder's answer.
    Answer,
    /// What the holder says that it holds, when it came back.
    Claim,
    /// It was fetched once, over no stream: nobody will say more.
    Fetch,
    /// The holder's own counters.
    Statistics,
}

/// A content that the holder refused: never sent to it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of the bytes.
    pub hash: ContentHash,
    /// The class of the reason, a word of ours.
    pub kind: Box<str>,
    /// When.
    pub at: Timestamp,
}

/// One name of one holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRow {
    /// What was sent last, by its content: the bytes may differ by their dress.
    pub version: Version,
    /// How often the same content was put into other bytes for this holder.
    pub dress: u32,
    /// Where that version stands.
    pub standing: Standing,
    /// How this is known.
    pub means: Means,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// Since when it stands so.
    pub at: Timestamp,
    /// What was refused, oldest first.
    pub refusals: Vec<Refusal>,
}

/// Whether a holder is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has an open stream.
    Connected,
    /// It has none: it may be cut off and alive.
    Away,
}

/// What is known of one holder now. A report is of the whole state: repeated, it says the same.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of whom, as the kernel or a certificate vouches.
    pub holder: HolderKey,
    /// Its user, if it is a process of this node.
    pub uid: Option<u32>,
    /// The SPIFFE IDs that its entries give it.
    pub identities: Vec<Box<str>>,
    /// The end of the last certificate that it may have been given; `None` if it was given none.
    pub not_after: Option<Timestamp>,
    /// Whether it tells its counters.
    pub statistics: bool,
    /// Whether it is there.
    pub presence: Presence,
    /// The names that changed since the last report, or all.
    pub names: Vec<(Box<str>, NameRow)>,
    /// Names that it wants no more.
    pub dropped: Vec<Box<str>>,
}
