//! What the node tells about itself.

use crate::clock::Timestamp;
use crate::identity::Serial;
use crate::keys::KeyType;

/// One identity that the node holds or wants.
#[derive(Debug, Clone, serde::Serialize)]
pub struct IdentityStatus {
    /// Whose.
    pub spiffe_id: String,
    /// The type of its key.
    pub key_type: KeyType,
    /// The leaf's serial number; `None` before the first signature.
    pub serial: Option<Serial>,
    /// Until when it is valid.
    pub not_after: Option<Timestamp>,
    /// When it is looked at next; `None` while nobody asks for it.
    pub next_renewal: Option<Timestamp>,
    /// How many kinds of caller are served from it.
    pub views: usize,
    /// Failures since the last success, and the last of them.
    pub failures: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

/// The node, counted.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct NodeStatus {
    /// Identities in memory.
    pub identities: usize,
    /// Kinds of caller (sets of selectors) that are served now.
    pub views: usize,
    /// Identities whose last renewal failed; at most 100 are listed.
    pub failing: Vec<IdentityStatus>,
}
