//! What one Envoy's statistics prove of the pushes that its process was sent. Pure; whoever holds it joins it to
//! the process by the connection, and drops it with the process's last one.

use std::collections::BTreeMap;

use super::judge::{Answer, Baseline, Contexts, Push, Verdict, judge, learn};
use super::observation::{Observation, stat_name};

/// Names that are kept for one process. An Envoy with more of them stays unproved in the rest.
const NAMES: usize = 4096;

/// The pushes to one process, and how far each is proved.
#[derive(Debug, Default)]
pub struct Tracker {
    latest: Option<Observation>,
    /// By name, at most one each. Only one that was alone in here all its time can be counted.
    in_flight: BTreeMap<Box<str>, InFlight>,
    names: BTreeMap<Box<str>, Known>,
}

#[derive(Debug)]
struct InFlight {
    push: Push,
    before: Baseline,
    /// Refusals of the name before the push.
    rejected: u64,
    /// Another push came before this one was settled: whose rise it is cannot be told any more.
    is_mixed: bool,
}

#[derive(Debug)]
struct Known {
    version: Box<str>,
    verdict: Verdict,
    contexts: Contexts,
}

impl Tracker {
    /// A version was sent. The same one again is no change: Envoy builds no context for it.
    pub fn sent(&mut self, name: &str, version: &str) {
        let known = self.names.get(name);
        if known.is_some_and(|known| &*known.version == version)
            || (known.is_none() && self.names.len() >= NAMES)
        {
            return;
        }
        let contexts = known.map(|known| known.contexts.clone()).unwrap_or_default();
        let known = Known { version: version.into(), verdict: Verdict::Sent, contexts: contexts.clone() };
        self.names.insert(name.into(), known);
        let is_mixed = !self.in_flight.is_empty();
        for flight in self.in_flight.values_mut() {
            flight.is_mixed = true;
            // It proves nothing any more: one copy of a flush is kept, not one a name.
            flight.before.observed = None;
        }
        let push = Push { name: name.into(), version: version.into(), answer: Answer::Awaited };
        let secret = self.latest.as_ref().and_then(|latest| latest.secrets.get(&*stat_name(name)));
        let rejected = secret.map_or(0, |secret| secret.rejected);
        let observed = if is_mixed { None } else { self.latest.clone() };
        let flight = InFlight { push, before: Baseline { observed, contexts }, rejected, is_mixed };
        self.in_flight.insert(name.into(), flight);
    }

    /// The client answered a version. An answer to an older one is not looked at.
    pub fn answered(&mut self, name: &str, version: &str, answer: Answer) {
        let Some(known) = self.names.get_mut(name).filter(|known| &*known.version == version) else { return };
        known.verdict = known.verdict.max(match answer {
            Answer::Awaited => Verdict::Sent,
            Answer::Acked => Verdict::Acknowledged,
            Answer::Nacked => Verdict::Refused,
        });
        if let Some(flight) = self.in_flight.get_mut(name) {
            flight.push.answer = answer;
        }
    }

    /// A flush came. It settles the changes in flight that it was taken after, and no others: their rise would
    /// be counted for the next push.
    pub fn flushed(&mut self, now: Observation) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let (settled, open) = in_flight.into_iter().partition(|(_, flight)| flight.is_settled_by(&now));
        self.in_flight = open;
        let settled: BTreeMap<_, _> = settled;
        for flight in settled.values() {
            self.settle(flight, &now);
        }
        self.latest = Some(now);
    }

    /// How far the newest version of `name` is proved; `None` if none was sent.
    #[must_use]
    pub fn verdict(&self, name: &str) -> Option<Verdict> {
        self.names.get(name).map(|known| known.verdict)
    }

    fn settle(&mut self, flight: &InFlight, now: &Observation) {
        let Some(known) = self.names.get_mut(&flight.push.name) else { return };
        if !flight.is_mixed {
            known.verdict = judge(&flight.before, now, &flight.push);
            known.contexts = learn(&flight.before, now, &flight.push);
        }
    }
}

impl InFlight {
    /// `now` was taken after the client dealt with the push, and the answer is here too.
    fn is_settled_by(&self, now: &Observation) -> bool {
        let name = stat_name(&self.push.name);
        let Some(secret) = now.secrets.get(&*name) else { return false };
        match self.push.answer {
            Answer::Awaited => false,
            Answer::Acked => secret.version == Some(super::xxh64::xxh64(self.push.version.as_bytes())),
            Answer::Nacked => secret.rejected > self.rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipts::observation::{Owner, Secret};
    use crate::receipts::xxh64::xxh64;

    fn flush(version: &str, rejected: u64, updates: u64) -> Observation {
        let owner = Owner::new("listener.in");
        let users = [owner.clone()].into();
        let secret = Secret { version: Some(xxh64(version.as_bytes())), rejected, users };
        Observation { secrets: [("web".into(), secret)].into(), updates: [(owner, updates)].into() }
    }

    fn push(tracker: &mut Tracker, version: &str, answer: Answer) {
        tracker.sent("web", version);
        tracker.answered("web", version, answer);
    }

    /// Contexts are learned by `2-b`, which has a flush before it.
    fn learned() -> Tracker {
        let mut tracker = Tracker::default();
        push(&mut tracker, "1-a", Answer::Acked);
        tracker.flushed(flush("1-a", 0, 2));
        assert_eq!(tracker.verdict("web"), Some(Verdict::Acknowledged), "no flush from before");
        push(&mut tracker, "2-b", Answer::Acked);
        tracker.flushed(flush("2-b", 0, 4));
        assert_eq!(tracker.verdict("web"), Some(Verdict::PossiblyApplied), "how many is not known");
        tracker
    }

    #[test]
    fn a_push_after_one_that_was_counted_is_proved() {
        let mut tracker = learned();
        push(&mut tracker, "3-c", Answer::Acked);
        tracker.flushed(flush("2-b", 0, 4));
        assert_eq!(tracker.verdict("web"), Some(Verdict::Acknowledged), "a flush from before the push");
        tracker.flushed(flush("3-c", 0, 6));
        assert_eq!(tracker.verdict("web"), Some(Verdict::Proved));
    }

    #[test]
    fn two_changes_at_once_prove_neither() {
        let mut tracker = learned();
        push(&mut tracker, "3-c", Answer::Acked);
        push(&mut tracker, "4-d", Answer::Acked);
        tracker.flushed(flush("4-d", 0, 6));
        assert_eq!(tracker.verdict("web"), Some(Verdict::Acknowledged));
        push(&mut tracker, "5-e", Answer::Acked);
        tracker.flushed(flush("5-e", 0, 8));
        assert_eq!(tracker.verdict("web"), Some(Verdict::Proved), "the next one alone is counted again");
    }

    /// What is still open of the first may switch a context after the second is settled.
    #[test]
    fn a_change_that_stays_open_spoils_the_next() {
        let mut tracker = learned();
        tracker.sent("roots", "1-r");
        push(&mut tracker, "3-c", Answer::Acked);
        tracker.flushed(flush("3-c", 0, 5));
        push(&mut tracker, "4-d", Answer::Acked);
        tracker.flushed(flush("4-d", 0, 7));
        assert_eq!(tracker.verdict("web"), Some(Verdict::Acknowledged));
    }

    #[test]
    fn a_refusal_that_one_context_escaped_is_possibly_applied() {
        let mut tracker = learned();
        push(&mut tracker, "3-c", Answer::Nacked);
        tracker.flushed(flush("2-b", 0, 4));
        assert_eq!(tracker.verdict("web"), Some(Verdict::Refused), "said, not flushed yet");
        tracker.flushed(flush("2-b", 1, 5));
        assert_eq!(tracker.verdict("web"), Some(Verdict::PossiblyApplied));
    }
}
