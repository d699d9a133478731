//! What is recorded.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that happened and must be told later: what, to whom, and the particulars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened, such as `svid.issued`. Stable: operators search for it.
    pub kind: String,
    /// Whom or what it concerns: a SPIFFE ID, a slot, a file.
    pub subject: String,
    /// The particulars, a JSON object. Never key material.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place; rises by one, never used twice.
    pub sequence: u64,
    /// When it was recorded, in milliseconds since the Unix epoch.
    pub time: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Event {
    /// An event; `detail` is a JSON object, as `serde_json::json!` makes it.
    #[must_use]
    pub fn new(kind: &str, subject: impl Into<String>, detail: Value) -> Self {
        Self { kind: kind.to_owned(), subject: subject.into(), detail }
    }
}

impl Record {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Maps with text keys always serialise; an empty record would still hold its sequence number.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
