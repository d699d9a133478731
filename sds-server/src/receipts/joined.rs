//! Whose counters are joined to which pushes: all of a process together, those of a remote caller connection by
//! connection.
//!
//! A process is one Envoy, whatever connections it has. A certificate may be shown by several. Then the connection tells
//! them apart: what comes over it proves what was sent over it, and nothing else. Envoy sends both over one, as they are of
//! one cluster and of its main thread. Where that is not so, nothing is proved. docs/decisions/0017-remote-receipts.md

use std::collections::{BTreeMap, BTreeSet};

use spiffe_bridge::identity::Version;

use super::judge::Verdict;
use super::observation::{Observation, stat_name};
use super::tracker::{Known, Life, Tracker};
use crate::sds::{Look, Told};

/// Connections of one certificate whose counters are kept; those beyond are acknowledged only. Invariant 11.
const CONNECTIONS: usize = 256;

/// By what counters and pushes are known to be of one Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// They are of one process, which was seen from then on.
    Process(Life),
    /// They came over one connection.
    Connection,
}

/// What is known of the counters of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// None came.
    Silent,
    /// They are of what is sent over it.
    Joined,
    /// They are, or may be, of more than one Envoy, or of secrets from elsewhere.
    Unclear,
}

/// The counters of one client.
#[derive(Debug)]
pub struct Joined {
    by: By,
    /// By connection; of a process there is one.
    lines: BTreeMap<u64, Line>,
}

#[derive(Debug)]
struct Line {
    tracker: Tracker,
    hearing: Hearing,
}

impl Line {
    fn new(life: Life) -> Self {
        Self { tracker: Tracker::new(life), hearing: Hearing::Silent }
    }
}

impl Joined {
    /// Of a client that has told nothing yet.
    #[must_use]
    pub fn new(by: By) -> Self {
        Self { by, lines: BTreeMap::new() }
    }

    fn line_of(&self, connection: u64) -> u64 {
        match self.by {
            By::Process(_) => 0,
            By::Connection => connection,
        }
    }

    fn line(&self, connection: u64) -> Option<&Line> {
        self.lines.get(&self.line_of(connection))
    }

    /// A flush came over `connection`, while the streams stood as `look` says.
    pub fn flushed(&mut self, connection: u64, flush: Observation, look: &Look) {
        let life = match self.by {
            By::Process(life) => {
                let line = self.lines.entry(0).or_insert_with(|| Line::new(life));
                line.hearing = Hearing::Joined;
                return line.tracker.flushed(flush, &look.told);
            }
            // That it holds something from before is told by what it says first.
            By::Connection => Life::Whole,
        };
        if !self.lines.contains_key(&connection) && self.lines.len() >= CONNECTIONS {
            return;
        }
        let told: Vec<Told> =
            look.told.iter().filter(|told| told.connection == connection).cloned().collect();
        if told.is_empty() {
            return; // counters of nothing that we know of
        }
        let line = self.lines.entry(connection).or_insert_with(|| Line::new(life));
        if look.lines.mixed.contains(&connection) || has_foreign(&flush, connection, &told, look) {
            line.hearing = Hearing::Unclear;
            line.tracker = Tracker::new(Life::Unknown);
            return;
        }
        line.hearing = Hearing::Joined;
        line.tracker.flushed(flush, &told);
    }

    /// Forgets connections that are gone.
    pub fn retain(&mut self, look: &Look) {
        if self.by == By::Connection {
            let open: BTreeSet<u64> = look.told.iter().map(|told| told.connection).collect();
            self.lines.retain(|connection, _| open.contains(connection));
        }
    }

    /// What is known of the counters of a connection.
    #[must_use]
    pub fn hearing(&self, connection: u64) -> Hearing {
        self.line(connection).map_or(Hearing::Silent, |line| line.hearing)
    }

    /// Whether all of `told` is of those whose counters are joined.
    #[must_use]
    pub fn hears_all(&self, told: &[Told]) -> bool {
        !told.is_empty() && told.iter().all(|told| self.hearing(told.connection) == Hearing::Joined)
    }

    /// Whether a flush over `connection` says nothing new.
    #[must_use]
    pub fn has_seen(&self, connection: u64, now: &Observation) -> bool {
        self.line(connection).is_some_and(|line| line.tracker.has_seen(now))
    }

    /// Bytes that are kept of last flushes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lines.values().map(|line| line.tracker.bytes()).sum()
    }

    /// Keeps nothing of the last flush over `connection`.
    pub fn forget(&mut self, connection: u64) {
        let line = self.line_of(connection);
        if let Some(line) = self.lines.get_mut(&line) {
            line.tracker.forget();
        }
    }

    /// Keeps nothing of any flush.
    pub fn forget_all(&mut self) {
        self.lines.values_mut().for_each(|line| line.tracker.forget());
    }

    /// How far `version` is proved, which was sent as `of_name` says: the weakest of its connections speaks for all. `None`
    /// if one of them has nothing to say.
    #[must_use]
    pub fn known(&self, name: &str, version: Version, of_name: &[Told]) -> Option<Known> {
        let lines: BTreeSet<u64> = of_name.iter().map(|told| self.line_of(told.connection)).collect();
        let all: Option<Vec<Known>> =
            lines.iter().map(|line| self.lines.get(line)?.tracker.known(name, version)).collect();
        let all = all?;
        let weakest = all.iter().map(|known| known.verdict).min()?;
        let strongest = all.iter().map(|known| known.verdict).max()?;
        let verdict = match (weakest, strongest) {
            // One has it, another refused it: some places use it.
            (Verdict::Refused, Verdict::PossiblyApplied | Verdict::Proved) => Verdict::PossiblyApplied,
            _ => weakest,
        };
        let could_be_proved = all.iter().any(|known| known.could_be_proved);
        Some(Known { version, verdict, could_be_proved })
    }
}

/// Whether the flush counts secrets that do not come over this connection: what raised a counter cannot be told then.
fn has_foreign(flush: &Observation, connection: u64, told: &[Told], look: &Look) -> bool {
    let withdrawn = look.lines.withdrawn.iter().filter(|(of, _)| *of == connection).map(|(_, name)| name);
    let ours: BTreeSet<String> =
        told.iter().map(|told| &told.name).chain(withdrawn).map(|name| stat_name(name)).collect();
    // One that is used by nobody raises nothing.
    let is_in_use =
        |secret: &super::observation::Secret| secret.version.is_some() && !secret.users.is_empty();
    flush.secrets.iter().any(|(name, secret)| is_in_use(secret) && !ours.contains(&**name))
}

#[cfg(test)]
mod tests;
