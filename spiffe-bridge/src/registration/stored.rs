//! The accepted form of a file, as it is kept in the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Entry, EntryId};
use crate::identity::{Selector, SelectorSet, parse_spiffe_id};

/// Under it, by file name, lies what was accepted.
pub(super) const PREFIX: &[u8] = b"registration/file/";

/// All of the registration in the store.
pub(super) const ALL: &[u8] = b"registration/";
/// Written with each change, so that the revision of a removal is remembered too.
pub(super) const CHANGED: &[u8] = b"registration/changed";

/// The form that is written; a newer one is not guessed at.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    entries: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    spiffe_id: String,
    selectors: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dns_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    peers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Why what is in the store cannot be read. Ours, or that of a newer version.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the accepted form of entry file {file} cannot be read ({why}): run the version that wrote it")]
pub struct StoredError {
    file: String,
    why: String,
}

pub(super) fn key_of(file: &str) -> Vec<u8> {
    [PREFIX, file.as_bytes()].concat()
}

pub(super) fn file_of(key: &[u8]) -> Option<Arc<str>> {
    str::from_utf8(key.strip_prefix(PREFIX)?).ok().map(Into::into)
}

pub(super) fn encode(entries: &[Arc<Entry>]) -> Vec<u8> {
    let line = |entry: &Arc<Entry>| Line {
        spiffe_id: entry.spiffe_id.to_string(),
        selectors: entry.selectors.iter().map(ToString::to_string).collect(),
        dns_names: entry.dns_names.clone(),
        profile: entry.profile.clone(),
        peers: entry.peers.iter().map(ToString::to_string).collect(),
        hint: entry.hint.as_deref().map(Into::into),
    };
    let file = File { form: FORM, entries: entries.iter().map(line).collect() };
    // Texts and lists of them always serialise; a form that could not be read is refused by `decode`.
    serde_json::to_vec(&file).unwrap_or_default()
}

pub(super) fn decode(bytes: &[u8], source: &Arc<str>) -> Result<Vec<Arc<Entry>>, StoredError> {
    let fail = |why: String| StoredError { file: source.to_string(), why };
    let file: File = serde_json::from_slice(bytes).map_err(|e| fail(e.to_string()))?;
    if file.form != FORM {
        return Err(fail(format!("form {}", file.form)));
    }
    file.entries.into_iter().map(|line| entry(line, source).map(Arc::new).map_err(fail)).collect()
}

fn entry(line: Line, source: &Arc<str>) -> Result<Entry, String> {
    let id = |text: &String| parse_spiffe_id(text).map_err(|e| e.to_string());
    let spiffe_id = id(&line.spiffe_id)?;
    let selector = |text: &String| text.parse::<Selector>().map_err(|e| e.to_string());
    let selectors: SelectorSet = line.selectors.iter().map(selector).collect::<Result<_, _>>()?;
    if selectors.is_empty() {
        return Err(format!("{spiffe_id} without selectors")); // It would match every process.
    }
    Ok(Entry {
        id: EntryId::of(&spiffe_id, &selectors),
        peers: line.peers.iter().map(id).collect::<Result<_, _>>()?,
        spiffe_id,
        selectors,
        dns_names: line.dns_names,
        profile: line.profile,
        hint: line.hint.map(Into::into),
        source: source.clone(),
    })
}
