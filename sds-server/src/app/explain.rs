//! Why a process gets its identities, or none: what is seen of it, laid beside the entries.

use std::collections::BTreeSet;
use std::sync::Arc;

use spiffe_bridge::attest::{AttestError, Attestation, Attestor, Changed, Process};
use spiffe_bridge::identity::{Selector, SelectorSet};
use spiffe_bridge::registration::{Entry, EntryIndex, Needs};

use crate::admin::{Explained, Matching, Near};

/// A person reads this: who needs more of them looks for something else.
const NEAREST: usize = 20;
/// More identities than a process ever has; a mistaken entry that matches all must not make the answer endless.
const MATCHES: usize = 1000;

/// Looks at the process `pid`, at all that can be seen of it, and lays it beside the entries of `index`. Blocks.
///
/// A process that cannot be attested is explained too: by the reason.
///
/// # Errors
/// A text for the operator, if there is no such process.
pub(super) fn explain(attestor: &Attestor, index: &EntryIndex, pid: u32) -> Result<Explained, String> {
    let attested = Process::by_pid(pid).and_then(|process| attestor.attest(&process, Needs::ALL));
    match attested {
        Ok(Attestation { selectors, missing, .. }) => {
            let unseen = missing.iter().map(ToString::to_string).collect();
            Ok(Explained { unseen, ..compare(index.entries(), &selectors, pid) })
        }
        Err(AttestError::NotVisible | AttestError::Changed(Changed::Exited)) => Err(format!(
            "no process {pid} is visible to the server: give its number as the server's host has it"
        )),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
            let refused = format!("it gets nothing: {error}{}", cause.unwrap_or_default());
            Ok(Explained { pid, unseen: vec![refused], ..Explained::default() })
        }
    }
}

/// Decides which of `entries` a process with `selectors` matches, and which it nearly does: fewest missing
/// first, then most in common.
fn compare<'e>(
    entries: impl Iterator<Item = &'e Arc<Entry>>,
    selectors: &SelectorSet,
    pid: u32,
) -> Explained {
    let (mut matches, mut near) = (Vec::new(), Vec::new());
    for entry in entries {
        let missing = entry.selectors.difference(selectors).count();
        let common = entry.selectors.len() - missing;
        match (missing, common) {
            (0, _) => matches.push(entry),
            (_, 0) => {}
            // Entries come sorted, and the sort is stable: equals stay by SPIFFE ID.
            _ => near.push((missing, usize::MAX - common, entry)),
        }
    }
    near.sort_by_key(|(missing, common, _)| (*missing, *common));
    Explained {
        pid,
        selectors: texts(selectors),
        unseen: Vec::new(),
        matches_total: matches.len(),
        matches: matches.into_iter().take(MATCHES).map(|entry| matching(entry)).collect(),
        near_total: near.len(),
        near: near.into_iter().take(NEAREST).map(|(_, _, entry)| nearly(entry, selectors)).collect(),
    }
}

fn matching(entry: &Entry) -> Matching {
    Matching {
        spiffe_id: entry.spiffe_id.to_string(),
        selectors: texts(&entry.selectors),
        source: entry.source.to_string(),
    }
}

fn nearly(entry: &Entry, selectors: &SelectorSet) -> Near {
    let missing: SelectorSet = entry.selectors.difference(selectors).cloned().collect();
    let keys: BTreeSet<_> = missing.iter().map(key).collect();
    // A process may be in thousands of groups; all of them say less than the list of its selectors.
    let is_single = |selector: &&Selector| !selector.value().starts_with("supplementary_");
    let instead = selectors.iter().filter(|selector| keys.contains(&key(selector))).filter(is_single);
    Near {
        spiffe_id: entry.spiffe_id.to_string(),
        instead: instead.map(ToString::to_string).collect(),
        missing: texts(&missing),
        has: texts(entry.selectors.intersection(selectors)),
        source: entry.source.to_string(),
    }
}

/// `unix` and `uid` of `unix:uid:1001`.
fn key(selector: &Selector) -> (&str, &str) {
    (selector.kind(), selector.value().split(':').next().unwrap_or_default())
}

fn texts<'s>(selectors: impl IntoIterator<Item = &'s Selector>) -> Vec<String> {
    selectors.into_iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
