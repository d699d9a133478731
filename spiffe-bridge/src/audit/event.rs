//! What is recorded.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most records are shorter: an issuance has about 350 bytes.
pub(super) const USUAL_BYTES: usize = 512;

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
    /// Appends it to a row. JSON has no line feed but between its tokens, where none is written.
    pub(super) fn write_line(&self, row: &mut Vec<u8>) {
        let start = row.len();
        // Maps with text keys always serialise; a record that did not would still hold its sequence number.
        if serde_json::to_writer(&mut *row, self).is_err() {
            row.truncate(start);
        }
        row.push(b'\n');
    }
}

impl Record {
    /// The records of a row.
    pub(super) fn lines(row: &[u8]) -> impl Iterator<Item = Self> {
        row.split(|octet| *octet == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
    }
}
