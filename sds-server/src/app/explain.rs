//! Why a process gets its identities, or none: what is seen of it, laid beside the entries.

use std::collections::BTreeSet;
use std::sync::Arc;

use spiffe_bridge::attest::{AttestError, Attestation, Attestor, Changed, Patience, Process};
use spiffe_bridge::identity::{Selector, SelectorSet};
use spiffe_bridge::registration::{Entry, EntryIndex, Needs};

use self::attested::{Unknown, by_attestor};
use crate::admin::{Attested, AttestorState, Explained, Matching, Near, WhyNot};

mod attested;

/// A person reads this: who needs more of them looks for something else.
const NEAREST: usize = 20;
/// More identities than a process ever has; a mistaken entry that matches all must not make the answer endless.
const MATCHES: usize = 1000;

/// Looks at the process `pid`, at all that can be seen of it, and lays it beside the entries of `index`.
///
/// A process that cannot be attested is explained too: by the reason.
///
/// # Errors
/// A text for the operator, if there is no such process.
pub(super) async fn explain(
    attestor: Arc<Attestor>,
    index: &EntryIndex,
    pid: u32,
) -> Result<Explained, String> {
    match look(attestor, pid).await {
        Ok(attestation) => {
            let shown = Shown::new(&attestation.selectors, index.entries());
            let (attestors, unknown) = by_attestor(&attestation, |selector| shown.text(selector));
            let unseen = attestors
                .iter()
                .filter(|attested| attested.state != AttestorState::Nothing || attested.attestor == "unix");
            let unseen = unseen
                .flat_map(|attested| attested.why.iter().map(|why| format!("{}: {why}", attested.attestor)))
                .collect();
            Ok(Explained { attestors, unseen, ..compare(index.entries(), &shown, &unknown, pid) })
        }
        Err(AttestError::NotVisible | AttestError::Changed(Changed::Exited)) => Err(format!(
            "no process {pid} is visible to the server: give its number as the server's host has it"
        )),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
            let refused = format!("it gets nothing: {error}{}", cause.unwrap_or_default());
            let unix = Attested {
                attestor: "unix".to_owned(),
                state: AttestorState::Failed,
                selectors: Vec::new(),
                why: vec![refused.clone()],
            };
            Ok(Explained { pid, attestors: vec![unix], unseen: vec![refused], ..Explained::default() })
        }
    }
}

async fn look(attestor: Arc<Attestor>, pid: u32) -> Result<Attestation, AttestError> {
    let process = Process::by_pid(pid)?;
    let (kernel, its) = (attestor.clone(), process.clone());
    // A large executable is hashed, and names may be asked of a server.
    let blocking = tokio::task::spawn_blocking(move || kernel.attest(&its, Needs::ALL));
    let (attested, asked) =
        tokio::join!(blocking, attestor.ask(&process, Needs::ALL, None, Patience::HeldUp));
    let attestation = attested.unwrap_or(Err(AttestError::NotVisible))?;
    Ok(attestation.with(asked?))
}

/// Decides which of `entries` a process with the selectors `shown` matches, and which it nearly does: fewest missing
/// first, then most in common. If it matches none and has nothing in common with any, those count of which it has another
/// value of whatever they ask for.
fn compare<'e>(
    entries: impl Iterator<Item = &'e Arc<Entry>>,
    shown: &Shown<'_>,
    unknown: &Unknown,
    pid: u32,
) -> Explained {
    let selectors = shown.selectors;
    let has: BTreeSet<_> = selectors.iter().filter(is_single).map(key).collect();
    let (mut matches, mut near, mut far, mut in_force) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for entry in entries {
        in_force += 1;
        let missing = entry.selectors.difference(selectors).count();
        let common = entry.selectors.len() - missing;
        match (missing, common) {
            (0, _) => matches.push(entry),
            (_, 0) if entry.selectors.iter().all(|selector| has.contains(key(selector))) => {
                far.push((missing, usize::MAX, entry));
            }
            (_, 0) => {}
            // Entries come sorted, and the sort is stable: equals stay by SPIFFE ID.
            _ => near.push((missing, usize::MAX - common, entry)),
        }
    }
    if matches.is_empty() && near.is_empty() {
        near = far;
    }
    near.sort_by_key(|(missing, common, _)| (*missing, *common));
    Explained {
        pid,
        selectors: selectors.iter().map(|selector| shown.text(selector)).collect(),
        attestors: Vec::new(),
        unseen: Vec::new(),
        matches_total: matches.len(),
        matches: matches.into_iter().take(MATCHES).map(|entry| matching(entry)).collect(),
        entries_total: in_force,
        near_total: near.len(),
        near: near.into_iter().take(NEAREST).map(|(_, _, entry)| nearly(entry, shown, unknown)).collect(),
    }
}

fn matching(entry: &Entry) -> Matching {
    Matching {
        spiffe_id: entry.spiffe_id.to_string(),
        selectors: texts(&entry.selectors),
        source: entry.source.to_string(),
    }
}

/// The selectors of a process as they are told: the environment of a container may hold its passwords, so that a
/// variable's value is told only where an entry names it.
struct Shown<'s> {
    selectors: &'s SelectorSet,
    named: BTreeSet<&'s Selector>,
}

impl<'s> Shown<'s> {
    fn new(selectors: &'s SelectorSet, entries: impl Iterator<Item = &'s Arc<Entry>>) -> Self {
        Self { selectors, named: entries.flat_map(|entry| &entry.selectors).collect() }
    }

    fn text(&self, selector: &Selector) -> String {
        match selector.as_str().split_once('=') {
            Some((name, _)) if name.starts_with("docker:env:") && !self.named.contains(selector) => {
                format!("{name}=…")
            }
            _ => selector.to_string(),
        }
    }
}

fn nearly(entry: &Entry, shown: &Shown<'_>, unknown: &Unknown) -> Near {
    let selectors = shown.selectors;
    let missing: SelectorSet = entry.selectors.difference(selectors).cloned().collect();
    let keys: BTreeSet<_> = missing.iter().map(key).collect();
    let instead = selectors.iter().filter(|selector| keys.contains(&key(selector))).filter(is_single);
    Near {
        spiffe_id: entry.spiffe_id.to_string(),
        instead: instead.map(|selector| shown.text(selector)).collect(),
        why_not: missing.iter().map(|selector| why_not(selector, shown, unknown)).collect(),
        missing: texts(&missing),
        has: texts(entry.selectors.intersection(selectors)),
        source: entry.source.to_string(),
    }
}

/// A process may be in thousands of groups; all of them say less than the list of its selectors.
fn is_single(selector: &&Selector) -> bool {
    !selector.value().starts_with("supplementary_")
}

/// Why a process lacks what an entry asks for: it has another, or it is not known what it has.
fn why_not(selector: &Selector, shown: &Shown<'_>, unknown: &Unknown) -> WhyNot {
    let same = shown.selectors.iter().filter(|other| key(other) == key(selector)).filter(is_single);
    let instead: Vec<_> = same.map(|other| shown.text(other)).collect();
    let reason = match (instead.is_empty(), unknown.why(selector)) {
        (false, None) => format!("it has {}", instead.join(", ")),
        (false, Some(why)) => format!("it has {}; {why}", instead.join(", ")),
        (true, Some(why)) => why.to_owned(),
        (true, None) if !is_single(&selector) => "it is not among its groups".to_owned(),
        (true, None) => format!("it has no other {}", key(selector)),
    };
    WhyNot { selector: selector.to_string(), reason }
}

/// What a selector is about, without its value: `unix:uid` of `unix:uid:1001`, `docker:label:app` of
/// `docker:label:app:web`.
fn key(selector: &Selector) -> &str {
    let text = selector.as_str();
    let (parts, end) = match selector.value().split(':').next() {
        Some("label") => (3, ':'),
        Some("env") => (1, '='),
        _ => (2, ':'),
    };
    text.match_indices(end).nth(parts - 1).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

fn texts<'s>(selectors: impl IntoIterator<Item = &'s Selector>) -> Vec<String> {
    selectors.into_iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
