//! What one Envoy's statistics prove of the pushes that its process was sent. Pure; whoever holds it joins it to
//! the process by the connection, and drops it with the process's last one.
//!
//! A flush counts only when it is settled: everything that was sent is answered, and the flush shows it. Between two
//! settled flushes all pushes are judged together.

use std::collections::BTreeMap;

use spiffe_bridge::identity::Version;

use super::judge::{Contexts, Pushed, Verdict, Window, judge, owners};
use super::observation::{Observation, stat_name};
use super::xxh64::xxh64;
use crate::sds::Told;

/// The pushes to one process, and how far each is proved.
#[derive(Debug)]
pub struct Tracker {
    base: Option<Base>,
    contexts: BTreeMap<Box<str>, Contexts>,
    proved: BTreeMap<Box<str>, Known>,
    unsettled: u32,
}

/// Counters that are kept of listeners and clusters that use nothing yet, and the longest name of one: they may have been
/// raised by what they have while they wait for what they have not, and are counted from there when that has come.
const WAITING: usize = 1024;
const WAITING_NAME: usize = 256;

/// Flushes in a row that a window is waited for to come out: a refusal that was superseded unheard, or a name that is in
/// no statistics, would else keep everything unproved for ever. Then it is counted anew.
const PATIENCE: u32 = 10;

/// A settled flush, and where the streams stood then.
#[derive(Debug, Default)]
struct Base {
    seen: Observation,
    /// Secrets and counters in all, also those that are not kept.
    size: (usize, usize),
    /// By stream and name.
    counts: BTreeMap<(u64, Box<str>), Count>,
    /// Whether nothing was in use yet: then all is counted from the beginning of the process.
    is_beginning: bool,
    /// Whether every counter of the flush was kept.
    is_whole: bool,
}

/// The answers of one stream to one name.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    sends: u32,
    nacks: u32,
    acked: Option<Version>,
}

/// What is known of a name's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// As it was sent.
    pub version: Version,
    /// Where it stands.
    pub verdict: Verdict,
    /// Whether the push has just told how many contexts there are: sent once more, it could be proved.
    pub could_be_proved: bool,
}

/// Whether the server has seen all pushes that a process ever got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// From the first one on.
    Whole,
    /// It may have got some before.
    Unknown,
}

impl Tracker {
    /// Of a process whose life was seen so far.
    #[must_use]
    pub fn new(life: Life) -> Self {
        let beginning = Base { is_beginning: true, is_whole: true, ..Base::default() };
        let base = (life == Life::Whole).then_some(beginning);
        Self { base, contexts: BTreeMap::new(), proved: BTreeMap::new(), unsettled: 0 }
    }

    /// Whether `now` says the same as the last settled flush.
    #[must_use]
    pub fn has_seen(&self, now: &Observation) -> bool {
        let same = |base: &Base| {
            base.size == now.size()
                && base.seen.secrets.iter().all(|(name, secret)| now.secrets.get(name) == Some(secret))
                && base.seen.updates.iter().all(|(owner, count)| now.updates.get(owner) == Some(count))
        };
        self.base.as_ref().is_some_and(same)
    }

    /// Bytes that are kept of the last flush.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.base.as_ref().map_or(0, |base| base.seen.bytes())
    }

    /// Keeps nothing of the last flush: what comes next is not counted from it.
    pub fn forget(&mut self) {
        self.base = None;
    }

    /// A flush came, while the streams stood as `told` (sorted by name).
    pub fn flushed(&mut self, mut now: Observation, told: &[Told]) {
        let size = now.size();
        let is_whole = now.retain(told.iter().map(|told| &*told.name));
        if self.base.as_ref().is_some_and(|base| base.has_lost(told)) {
            // What its streams were sent before they ended is not known: nothing can be counted over it.
            self.base = None;
        }
        if told.iter().any(|told| told.is_claim || told.has_past)
            && self.base.as_ref().is_some_and(|base| base.is_beginning)
        {
            self.base = None; // it holds something from before
        }
        if !is_settled(self.base.as_ref(), &now, told) {
            self.unsettled += 1;
            if self.unsettled >= PATIENCE {
                (self.base, self.unsettled) = (None, 0);
            }
            return;
        }
        self.unsettled = 0;
        let mut is_beginning = false;
        if let Some(base) = &self.base {
            // 0 of 0 is unknown: a context that waits for another secret is in no use, and is raised by each that comes.
            is_beginning =
                base.is_beginning && !told.is_empty() && now.secrets.values().all(|s| s.users.is_empty());
            let (beginning, pushed) = (Observation::default(), base.pushed(&now, told));
            let window = Window {
                before: if base.is_beginning { &beginning } else { &base.seen },
                is_whole: base.is_beginning || base.is_whole,
                now: &now,
                pushed: &pushed,
                contexts: &self.contexts,
                is_whole_life: base.is_beginning,
            };
            let judged = judge(&window);
            for (name, judgement) in judged {
                let sent = told.iter().find(|told| told.name == name).map(|told| told.sent);
                if let Some(version) = sent {
                    let could_be_proved =
                        judgement.verdict == Verdict::PossiblyApplied && judgement.learned.is_some();
                    let known = Known { version, verdict: judgement.verdict, could_be_proved };
                    self.proved.insert(name.clone(), known);
                }
                if let Some(contexts) = judgement.learned {
                    self.contexts.insert(name, contexts);
                }
            }
        }
        let is_wanted = |name: &str| told.iter().any(|told| *told.name == *name);
        self.contexts.retain(|name, _| is_wanted(name));
        self.proved.retain(|name, _| is_wanted(name));
        let count = |told: &Told| Count { sends: told.sends, nacks: told.nacks, acked: told.acked };
        let counts = told.iter().map(|told| ((told.stream, told.name.clone()), count(told))).collect();
        self.base = Some(Base { seen: now, size, counts, is_beginning, is_whole });
    }

    /// How far `version` of `name` is proved; `None` if nothing was judged of it.
    #[must_use]
    pub fn known(&self, name: &str, version: Version) -> Option<Known> {
        self.proved.get(name).copied().filter(|known| known.version == version)
    }
}

impl Base {
    /// Whether a stream that was counted is gone.
    fn has_lost(&self, told: &[Told]) -> bool {
        let is_there =
            |(stream, name): &(u64, Box<str>)| told.iter().any(|t| t.stream == *stream && t.name == *name);
        !self.counts.keys().all(is_there)
    }

    /// New contents that were taken, and refusals, since this flush. What was superseded before its answer came was taken
    /// too, unless the counter of refusals tells otherwise.
    fn since(&self, told: &Told) -> (u64, u64) {
        let counted = self.counts.get(&(told.stream, told.name.clone())).filter(|_| !self.is_beginning);
        let before = counted.copied().unwrap_or_default();
        let nacks = told.nacks.wrapping_sub(before.nacks);
        let taken = told.sends.wrapping_sub(before.sends).saturating_sub(nacks);
        let is_same =
            before.acked.is_some_and(|acked| Some(acked.hash) == told.acked.map(|acked| acked.hash));
        // Asked for once more and sent once more: Envoy builds nothing for the same bytes.
        let rounds = if taken == 1 && is_same { 0 } else { taken };
        (u64::from(rounds), u64::from(nacks))
    }

    /// What happened to each name that is in the statistics since this flush.
    fn pushed(&self, now: &Observation, told: &[Told]) -> BTreeMap<Box<str>, Pushed> {
        let mut pushed: BTreeMap<Box<str>, Pushed> = BTreeMap::new();
        for told in told.iter().filter(|told| now.secrets.contains_key(&*stat_name(&told.name))) {
            let (rounds, nacks) = self.since(told);
            pushed
                .entry(told.name.clone())
                .and_modify(|of| {
                    // Each subscription has its own contexts: only where all got the same can they be counted.
                    of.rounds = of.rounds.filter(|of_others| *of_others == rounds);
                    of.refusals += nacks;
                })
                .or_insert(Pushed { rounds: Some(rounds), refusals: nacks });
        }
        pushed.retain(|_, of| of.rounds != Some(0) || of.refusals > 0);
        pushed
    }
}

/// Whether all that was sent is answered, and `now` was taken after the client dealt with it: its rise would else be
/// counted for the next push.
fn is_settled(base: Option<&Base>, now: &Observation, told: &[Told]) -> bool {
    // The answer to the newest is the last: the client deals with them in turn.
    if told.iter().any(|told| told.answer.is_none()) {
        return false;
    }
    // A refusal is counted for each name of its stream: of ADS that is every one.
    let mut refused: BTreeMap<u64, u64> = BTreeMap::new();
    for told in told {
        *refused.entry(told.stream).or_default() += base.map_or(0, |base| base.since(told).1);
    }
    told.chunk_by(|a, b| a.name == b.name).all(|of_name| {
        let Some(first) = of_name.first() else { return true };
        let Some(secret) = now.secrets.get(&*stat_name(&first.name)) else {
            // Not in the statistics at all: of those that go to no listener. If it should be, it is settled later.
            return base.is_none_or(|base| !base.is_beginning) || first.sends == 0;
        };
        let shows = |told: &Told| {
            told.acked.is_none_or(|acked| secret.version == Some(xxh64(acked.to_string().as_bytes())))
        };
        let refused: u64 = of_name.iter().filter_map(|told| refused.get(&told.stream)).sum();
        let counted = base.is_none_or(|base| {
            let known = base.seen.secrets.get(&*stat_name(&first.name)).filter(|_| !base.is_beginning);
            let before = known.map_or(0, |secret| secret.rejected);
            secret.rejected.checked_sub(before) == Some(refused)
        });
        // Several subscriptions share one gauge: it shows one of them.
        counted && of_name.iter().any(shows)
    })
}

impl Observation {
    /// Keeps what is of `names`, and the counters of who uses them or may come to; whether these are all.
    fn retain<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> bool {
        let names: std::collections::BTreeSet<String> = names.map(stat_name).collect();
        self.secrets.retain(|name, _| names.contains(&**name));
        let used = owners(self, names.iter().map(String::as_str));
        let (all, mut waiting) = (self.updates.len(), 0);
        self.updates.retain(|owner, _| {
            if used.contains(owner) {
                return true;
            }
            waiting += 1;
            waiting <= WAITING && owner.len() <= WAITING_NAME
        });
        self.updates.len() == all
    }

    fn size(&self) -> (usize, usize) {
        (self.secrets.len(), self.updates.len())
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        let users = |secret: &super::observation::Secret| {
            secret.users.iter().map(|owner| owner.len() + 32).sum::<usize>()
        };
        let secrets: usize = self.secrets.iter().map(|(name, secret)| name.len() + 64 + users(secret)).sum();
        secrets + self.updates.keys().map(|owner| owner.len() + 40).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
