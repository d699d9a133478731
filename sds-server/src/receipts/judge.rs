//! What a flush proves of one push. Pure: what was before, what is now, and what the client answered.
//!
//! Sound only while one change at a time is under way to an Envoy: the update counter is of a listener or
//! cluster, not of a secret.

use std::collections::BTreeMap;

use super::observation::{Observation, Owner, stat_name};
use super::xxh64::xxh64;

/// What the client said of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Awaited,
    /// ACK.
    Acked,
    /// NACK.
    Nacked,
}

/// A secret that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// As the client spells it.
    pub name: Box<str>,
    /// `version_info`, whole.
    pub version: Box<str>,
    /// What was answered.
    pub answer: Answer,
}

/// How many contexts of each user take a secret.
pub type Contexts = BTreeMap<Owner, u64>;

/// What is known from before a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    /// The last flush before the push; `None` if there was none since the server started.
    pub observed: Option<Observation>,
    /// By the rise at the last push of this name that nobody refused; empty if there was none.
    pub contexts: Contexts,
}

/// Where a push stands, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not answered.
    Sent,
    /// Refused, and no context took it.
    Refused,
    /// The client said that it took it, and nothing bears it out.
    Acknowledged,
    /// Some contexts took it, or it cannot be told whether all did.
    PossiblyApplied,
    /// Every context of every user took it.
    Proved,
}

/// What `now` proves of `push`.
#[must_use]
pub fn judge(before: &Baseline, now: &Observation, push: &Push) -> Verdict {
    let unproved = match push.answer {
        Answer::Awaited => Verdict::Sent,
        Answer::Acked => Verdict::Acknowledged,
        Answer::Nacked => Verdict::Refused,
    };
    let name = stat_name(&push.name);
    // Without a flush from before there is nothing to count from.
    let Some(observed) = &before.observed else { return unproved };
    let Some(secret) = now.secrets.get(&*name) else { return unproved };
    let rejected_before = observed.secrets.get(&*name).map_or(0, |secret| secret.rejected);
    let rises = rises(observed, now, &name);
    let risen = rises.as_ref().is_some_and(|rises| rises.values().any(|rise| *rise > 0));
    if push.answer == Answer::Nacked || secret.rejected != rejected_before {
        // A NACK is not "not applied": contexts before the one that refused have switched.
        return if risen { Verdict::PossiblyApplied } else { Verdict::Refused };
    }
    // The answer is waited for too: a NACK may be on its way.
    if push.answer != Answer::Acked || secret.version != Some(xxh64(push.version.as_bytes())) || !risen {
        return unproved;
    }
    match rises {
        Some(rises) if rises == before.contexts && rises.values().all(|rise| *rise > 0) => Verdict::Proved,
        _ => Verdict::PossiblyApplied,
    }
}

/// How many contexts take the name, as far as this push tells; the former number where it does not.
///
/// A smaller rise with the same users is never learned: a context that is frozen would pass for one that is gone.
#[must_use]
pub fn learn(before: &Baseline, now: &Observation, push: &Push) -> Contexts {
    let accepted = matches!(judge(before, now, push), Verdict::PossiblyApplied | Verdict::Proved);
    let rises = before.observed.as_ref().and_then(|observed| rises(observed, now, &stat_name(&push.name)));
    let clean = push.answer == Answer::Acked && rejected_same(before, now, push);
    match rises {
        Some(rises) if accepted && clean && rises.values().all(|rise| *rise > 0) => {
            let same_users = rises.keys().eq(before.contexts.keys());
            let shrunk =
                rises.iter().any(|(owner, rise)| before.contexts.get(owner).is_some_and(|n| rise < n));
            if same_users && shrunk { before.contexts.clone() } else { rises }
        }
        _ => before.contexts.clone(),
    }
}

fn rejected_same(before: &Baseline, now: &Observation, push: &Push) -> bool {
    let name = stat_name(&push.name);
    let of = |observed: &Observation| observed.secrets.get(&*name).map_or(0, |secret| secret.rejected);
    before.observed.as_ref().is_some_and(|observed| of(observed) == of(now))
}

/// By how much the counter of each user of `name` rose. `None` if one went back, which a counter of one process
/// does only when its owner was replaced, or if there is no user: 0 of 0 is unknown.
fn rises(before: &Observation, now: &Observation, name: &str) -> Option<Contexts> {
    let users = &now.secrets.get(name)?.users;
    let count =
        |observed: &Observation, owner: &Owner| observed.updates.get(owner).copied().unwrap_or_default();
    let rise = |owner: &Owner| Some((owner.clone(), count(now, owner).checked_sub(count(before, owner))?));
    let rises = users.iter().map(rise).collect::<Option<Contexts>>()?;
    (!rises.is_empty()).then_some(rises)
}

#[cfg(test)]
mod tests;
