//! How the directory stands, for `status` and the dashboard.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::identity::Revision;
use crate::registration::document::Fault;

/// How the directory stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct DirectoryStatus {
    /// Entries that are served.
    pub entries: usize,
    /// Entry files that the last scan saw.
    pub files: usize,
    /// What is wrong, by file and line. A file with a problem keeps its last accepted form.
    pub problems: Vec<Problem>,
    /// The change that waits for the operator's word, if one does.
    pub held_back: Option<HeldBack>,
    /// The directory or a file in it, if anybody may write to it.
    pub open_to_all: Option<Arc<str>>,
    /// The store's revision after they last changed: an index of this revision or a later one holds them. 0 if
    /// nothing changed since the start.
    pub revision: Revision,
    /// When the directory was last looked at; `None` before the first time.
    pub last_scan: Option<Timestamp>,
}

/// A [`Fault`] and since when it has been there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file's name, or the directory's path.
    pub file: Arc<str>,
    /// Counted from 1; 0 for the file as a whole.
    pub line: u64,
    /// Counted from 1; 0 for the file as a whole.
    pub column: u64,
    /// What to do about it.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// A change that would withdraw too many entries.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HeldBack {
    /// Why it is held.
    pub reason: HeldBecause,
    /// Entries that it would withdraw.
    pub withdrawn: usize,
    /// The SPIFFE IDs of some of them, at most twenty.
    pub examples: Vec<String>,
    /// Since when.
    pub since: Timestamp,
}

/// Why a change is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeldBecause {
    /// The directory cannot be read: missing, unmounted or not ours. Nothing can be pruned then.
    DirectoryUnreadable,
    /// No entry would be left.
    NothingLeft,
    /// More than a tenth of the entries would go within a minute.
    TooManyWithdrawn,
}

impl DirectoryStatus {
    /// The problems that `faults` are at `now`: those that were there keep their time.
    pub(super) fn problems_of(&self, faults: Vec<Fault>, now: Timestamp) -> Vec<Problem> {
        let since = |fault: &Fault| {
            let same = |p: &&Problem| {
                (&p.file, p.line, p.column, &p.message)
                    == (&fault.file, fault.line, fault.column, &fault.message)
            };
            self.problems.iter().find(same).map_or(now, |problem| problem.since)
        };
        let problem = |fault: Fault| {
            let since = since(&fault);
            Problem {
                file: fault.file,
                line: fault.line,
                column: fault.column,
                message: fault.message,
                since,
            }
        };
        faults.into_iter().map(problem).collect()
    }
}
