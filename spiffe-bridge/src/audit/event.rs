//! What is recorded.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most records are shorter: an issuance has about 350 bytes.
const USUAL_BYTES: usize = 512;

/// Something that happened and must be told later: what, to whom, and the particulars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "D: Deserialize<'de> + Default"))]
pub struct Event<D = Value> {
    /// What happened, such as `svid.issued`. Stable: operators search for it.
    pub kind: String,
    /// Whom or what it concerns: a SPIFFE ID, a slot, a file.
    pub subject: String,
    /// The particulars, a JSON object. Never key material. Whoever writes many has a type for them.
    #[serde(default)]
    pub detail: D,
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "D: Deserialize<'de> + Default"))]
pub struct Record<D = Value> {
    /// Its place; rises by one, never used twice.
    pub sequence: u64,
    /// When it was recorded, in milliseconds since the Unix epoch.
    pub time: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event<D>,
}

impl<D> Event<D> {
    /// An event; `detail` serialises as a JSON object, as what `serde_json::json!` makes does.
    #[must_use]
    pub fn new(kind: &str, subject: impl Into<String>, detail: D) -> Self {
        Self { kind: kind.to_owned(), subject: subject.into(), detail }
    }
}

impl<D: Serialize> Record<D> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        // Maps with text keys always serialise; an empty record would still hold its sequence number.
        match serde_json::to_writer(&mut bytes, self) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

impl Record {
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
