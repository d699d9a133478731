//! The table of members and what each holds. Pure: whoever keeps it tells it the time and who is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::HolderKey;
use super::standing::{Means, NameRow, Presence, REFUSALS, Report, Standing};
use crate::clock::Timestamp;

/// How long members stay, and how many there may be.
#[derive(Debug, Clone)]
pub struct Config {
    /// A holder that was given no certificate, and only verifies those of others, stays this long after it was last
    /// seen: there is no notAfter to end it.
    pub verifier_lease: Duration,
    /// By how much clocks may differ: a certificate may still be in use that long after its end.
    pub skew: Duration,
    /// Members at most.
    pub members: usize,
    /// Names of one member at most.
    pub names_each: usize,
    /// Names of all members at most; members of one user have at most half of them.
    pub names: usize,
}

impl Default for Config {
    /// A node that serves 100,000 streams has as many names, and the room for it again: about 60 MB when full.
    fn default() -> Self {
        Self {
            verifier_lease: Duration::from_secs(24 * 3600),
            skew: Duration::from_secs(300),
            members: 65_536,
            names_each: 4096,
            names: 262_144,
        }
    }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) uid: Option<u32>,
    pub(super) identities: Vec<Box<str>>,
    pub(super) since: Timestamp,
    /// When it was last known to be there.
    pub(super) seen: Timestamp,
    pub(super) is_connected: bool,
    pub(super) statistics: bool,
    /// The greatest it was ever given.
    pub(super) not_after: Option<Timestamp>,
    pub(super) names: BTreeMap<Box<str>, NameRow>,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dirty {
    Member(HolderKey),
    Name(HolderKey, Box<str>),
}

/// All members.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) config: Config,
    pub(super) members: BTreeMap<HolderKey, Member>,
    names: usize,
    names_by_uid: HashMap<Option<u32>, usize>,
    /// Reports that found no place since the start.
    pub(super) turned_away: u64,
    /// When the roster was opened: who was away before may have been there a moment ago.
    opened: Timestamp,
    pub(super) dirty: BTreeSet<Dirty>,
    /// Until when somebody may hold a certificate of whom the roster knows nothing: it ended without closing.
    pub(super) unaccounted_until: Option<Timestamp>,
}

impl Book {
    pub(super) fn new(config: Config, opened: Timestamp) -> Self {
        Self { config, opened, ..Self::default() }
    }

    /// Puts a member back that was kept. Nothing is proved right after a start.
    pub(super) fn restore(&mut self, key: HolderKey, mut member: Member) {
        member.is_connected = false;
        for row in member.names.values_mut() {
            row.standing = match row.standing {
                Standing::ProvedApplied => Standing::Acknowledged,
                other => other,
            };
            if row.means == Means::Statistics && row.standing == Standing::Acknowledged {
                row.means = Means::Answer;
            }
        }
        self.count(member.uid, 0, member.names.len());
        self.members.insert(key, member);
    }

    /// Takes a report in; `false` if there was no place for all of it.
    pub(super) fn report(&mut self, report: Report, now: Timestamp) -> bool {
        let Report { holder, uid, identities, not_after, statistics, presence, names, dropped } = report;
        let is_connected = presence == Presence::Connected;
        if !self.members.contains_key(&holder) && self.members.len() >= self.config.members {
            self.turned_away += 1;
            return false;
        }
        let all = self.config.names;
        let taken_by_uid = self.names_by_uid.get(&uid).copied().unwrap_or_default();
        let free = all.saturating_sub(self.names).min((all / 2).saturating_sub(taken_by_uid));
        let fresh = || Member {
            uid,
            identities: Vec::new(),
            since: now,
            seen: now,
            is_connected,
            statistics,
            not_after: None,
            names: BTreeMap::new(),
        };
        let mut is_new = false;
        let member = self.members.entry(holder.clone()).or_insert_with(|| {
            is_new = true;
            fresh()
        });
        let not_after = member.not_after.max(not_after);
        let says_more = (&member.identities, member.is_connected, member.statistics, member.not_after)
            != (&identities, is_connected, statistics, not_after);
        (member.identities, member.is_connected) = (identities, is_connected);
        (member.statistics, member.not_after, member.seen) = (statistics, not_after, now);
        if is_new || says_more {
            self.dirty.insert(Dirty::Member(holder.clone()));
        }
        let before = member.names.len();
        for name in dropped {
            if member.names.remove(&name).is_some() {
                self.dirty.insert(Dirty::Name(holder.clone(), name));
            }
        }
        let mut complete = true;
        for (name, mut row) in names {
            let has_place = member.names.len() < self.config.names_each
                && member.names.len().saturating_sub(before) < free;
            match member.names.get_mut(&name) {
                Some(known) => {
                    merge(known, &mut row);
                    if *known == row {
                        continue;
                    }
                    *known = row;
                }
                None if !has_place => {
                    complete = false;
                    continue;
                }
                None => {
                    member.names.insert(name.clone(), row);
                }
            }
            self.dirty.insert(Dirty::Name(holder.clone(), name));
        }
        let after = member.names.len();
        self.count(uid, before, after);
        self.turned_away += u64::from(!complete);
        complete
    }

    /// Lets those go who hold nothing any more. `is_gone` is asked of members that are away.
    pub(super) fn expire(&mut self, now: Timestamp, is_gone: impl Fn(&HolderKey) -> bool) -> usize {
        if self.unaccounted_until.is_some_and(|until| until + self.config.skew < now) {
            self.unaccounted_until = None;
        }
        let leaving: Vec<HolderKey> = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_connected)
            .filter(|(key, member)| {
                has_ended(member, &self.config, self.opened, now)
                    || (!has_only_fetched(member) && is_gone(key))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in &leaving {
            self.leave(key, now);
        }
        leaving.len()
    }

    /// Takes a member out. A sibling (another of the same user with the same identities) may have what it had, by fork
    /// or by a socket handed on: it inherits the greatest end.
    pub(super) fn leave(&mut self, key: &HolderKey, now: Timestamp) {
        let Some(member) = self.members.remove(key) else { return };
        self.count(member.uid, member.names.len(), 0);
        self.dirty.extend(member.names.keys().map(|name| Dirty::Name(key.clone(), name.clone())));
        self.dirty.insert(Dirty::Member(key.clone()));
        if member.not_after.is_none_or(|end| end + self.config.skew < now) {
            return;
        }
        let siblings = self.members.iter_mut().filter(|(_, other)| {
            other.uid == member.uid
                && other.identities == member.identities
                && other.not_after < member.not_after
        });
        for (other, sibling) in siblings {
            sibling.not_after = member.not_after;
            self.dirty.insert(Dirty::Member(other.clone()));
        }
    }

    pub(super) fn names(&self) -> usize {
        self.names
    }

    fn count(&mut self, uid: Option<u32>, before: usize, after: usize) {
        self.names = self.names + after - before.min(self.names);
        let of_uid = self.names_by_uid.entry(uid).or_default();
        *of_uid = *of_uid + after - before.min(*of_uid);
        if *of_uid == 0 {
            self.names_by_uid.remove(&uid);
        }
    }
}

/// What was refused once stays refused, and what was first known stays dated.
fn merge(known: &NameRow, row: &mut NameRow) {
    let missing: Vec<_> = known
        .refusals
        .iter()
        .filter(|old| row.refusals.iter().all(|new| new.hash != old.hash))
        .cloned()
        .collect();
    row.refusals.splice(0..0, missing);
    let excess = row.refusals.len().saturating_sub(REFUSALS);
    row.refusals.drain(..excess);
    row.dress = row.dress.max(known.dress);
    if (known.version, known.standing, known.means) == (row.version, row.standing, row.means) {
        row.at = known.at;
    }
}

/// Cut off but alive, it counts to the end of its last certificate; who only verifies, to the end of its lease.
fn has_ended(member: &Member, config: &Config, opened: Timestamp, now: Timestamp) -> bool {
    match member.not_after {
        Some(end) => end + config.skew < now,
        None => member.seen.max(opened) + config.verifier_lease < now,
    }
}

/// It may have written down what it fetched, for others: its own end says nothing of them.
fn has_only_fetched(member: &Member) -> bool {
    !member.names.is_empty() && member.names.values().all(|row| row.means == Means::Fetch)
}

#[cfg(test)]
mod tests;
