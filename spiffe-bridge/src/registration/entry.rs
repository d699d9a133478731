//! An entry: the identity that a process with certain selectors gets.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use spiffe::SpiffeId;

use crate::identity::SelectorSet;

/// What names an entry: the same for the same SPIFFE ID and selectors, in any file and after any restart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(Arc<str>);

/// A registration entry, checked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Hash of `spiffe_id` and `selectors`.
    pub id: EntryId,
    /// The identity that it gives. Of our trust domain, with a path.
    #[serde(serialize_with = "as_text")]
    pub spiffe_id: SpiffeId,
    /// What a caller must have, all of it. Never empty.
    pub selectors: SelectorSet,
    /// Whether it is for callers over the network, known by their certificates: then all its selectors are `x509:`,
    /// else none is, so that neither kind of caller ever matches the other's entries.
    pub remote: bool,
    /// DNS names in the certificate. Lower case.
    pub dns_names: Vec<String>,
    /// By which profile it is signed; `None` is the default one.
    pub profile: Option<String>,
    /// Who may call it.
    #[serde(serialize_with = "as_texts")]
    pub peers: Vec<SpiffeId>,
    /// What the identity is for, handed to Workload API clients. Workload API §5.2.1.
    pub hint: Option<Arc<str>>,
    /// The name of the file that it stands in.
    pub source: Arc<str>,
}

impl EntryId {
    /// The id of the entry that gives `spiffe_id` to processes with `selectors`.
    #[must_use]
    pub fn of(spiffe_id: &SpiffeId, selectors: &SelectorSet) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let id = spiffe_id.to_string();
        // NUL cannot stand in a SPIFFE ID, nor in a selector: no two lists give the same bytes.
        for text in std::iter::once(id.as_str()).chain(selectors.iter().map(|s| s.as_str())) {
            context.update(text.as_bytes());
            context.update(&[0]);
        }
        let hash = context.finish();
        let short = hash.as_ref().get(..10).unwrap_or_default();
        Self(data_encoding::HEXLOWER.encode(short).into())
    }

    /// Twenty lower-case hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({})", self.0)
    }
}

impl serde::Serialize for EntryId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

fn as_text<S: serde::Serializer>(id: &SpiffeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn as_texts<S: serde::Serializer>(ids: &[SpiffeId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(ToString::to_string))
}
