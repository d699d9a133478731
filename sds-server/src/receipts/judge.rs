//! What the counters prove of the pushes between two flushes. Pure.
//!
//! The update counter is of a listener or cluster, not of a secret: what several changes raised is told by the sum. If
//! nobody refused, and a counter rose by as many contexts as all changes that it is for have together, each of them
//! is in use there: none can have raised it by more than its own. docs/decisions/0004-one-window-in-flight.md

use std::collections::{BTreeMap, BTreeSet};

use super::observation::{Observation, Owner, stat_name};

/// How many contexts of each user take a secret.
pub type Contexts = BTreeMap<Owner, u64>;

/// What happened to one name between the two flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pushed {
    /// How often a new content reached all its subscriptions and was acknowledged; `None` if they differ.
    pub rounds: Option<u64>,
    /// Refusals.
    pub refusals: u64,
}

/// Two flushes, and all that was settled between them.
#[derive(Debug)]
pub struct Window<'a> {
    /// The flush before.
    pub before: &'a Observation,
    /// Whether `before` has every counter that there was: one that is not in it was 0 then.
    pub is_whole: bool,
    /// The flush after.
    pub now: &'a Observation,
    /// By name, as the client spells it.
    pub pushed: &'a BTreeMap<Box<str>, Pushed>,
    /// What is known of the names: by their last push that nobody refused.
    pub contexts: &'a BTreeMap<Box<str>, Contexts>,
    /// Whether `before` is the beginning of the process: then every context that a name has was raised by a push.
    pub is_whole_life: bool,
}

/// Where a push stands, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Refused, and no context took it.
    Refused,
    /// The client said that it took it, and nothing bears it out.
    Acknowledged,
    /// Some contexts took it, or it cannot be told whether all did.
    PossiblyApplied,
    /// Every context of every user took it.
    Proved,
}

/// What a window says of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Where its newest version stands.
    pub verdict: Verdict,
    /// How many contexts take it, if this push tells: it was the first, or more take it than before.
    pub learned: Option<Contexts>,
}

/// What the counters of one user say of the names that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    /// Every context took every one.
    Full,
    /// The same, if each name has as many contexts as this push tells: so many a round.
    First(u64),
    /// Nothing rose.
    Still,
    /// It rose by something else, or it cannot be told by what.
    Unclear,
}

/// Judges every name of the window.
#[must_use]
pub fn judge(window: &Window<'_>) -> BTreeMap<Box<str>, Judgement> {
    let mut names_of: BTreeMap<&Owner, Vec<&str>> = BTreeMap::new();
    for name in window.pushed.keys() {
        for owner in users(window.now, name) {
            names_of.entry(owner).or_default().push(name);
        }
    }
    let accounts: BTreeMap<&Owner, Account> =
        names_of.iter().map(|(owner, names)| (*owner, account(window, owner, names))).collect();
    let of = |name: &str| -> Vec<_> {
        users(window.now, name).filter_map(|owner| Some((owner.clone(), *accounts.get(owner)?))).collect()
    };
    let all = window.pushed.iter();
    all.map(|(name, pushed)| (name.clone(), of_name(window, name, *pushed, &of(name)))).collect()
}

fn users<'a>(now: &'a Observation, name: &str) -> impl Iterator<Item = &'a Owner> {
    now.secrets.get(&*stat_name(name)).into_iter().flat_map(|secret| &secret.users)
}

/// What the counter of `owner` says of `names`, all that it uses of those which were pushed.
fn account(window: &Window<'_>, owner: &Owner, names: &[&str]) -> Account {
    let count = |seen: &Observation| seen.updates.get(owner).copied();
    let Some(before) = count(window.before).or(window.is_whole.then_some(0)) else { return Account::Unclear };
    // A counter of one process goes back only when its owner was replaced.
    let Some(rise) = count(window.now).unwrap_or_default().checked_sub(before) else {
        return Account::Unclear;
    };
    if rise == 0 {
        return Account::Still;
    }
    let (mut known, mut unknown) = (0, Vec::new());
    for name in names {
        let Some(pushed) = window.pushed.get(*name) else { return Account::Unclear };
        let (Some(rounds), 0) = (pushed.rounds, pushed.refusals) else { return Account::Unclear };
        match window.contexts.get(*name).and_then(|contexts| contexts.get(owner)) {
            Some(contexts) => known += rounds * contexts,
            None => unknown.push(rounds),
        }
    }
    match (unknown.as_slice(), rise.checked_sub(known)) {
        ([], Some(0)) => Account::Full,
        // One name alone, and more of it than before: it has been given another place.
        ([], Some(_)) if let ([name], Some(each)) = (names, each(rise, rounds_of(window, names))) => {
            let before = window.contexts.get(*name).and_then(|contexts| contexts.get(owner));
            if before.is_some_and(|before| each > *before) { Account::First(each) } else { Account::Unclear }
        }
        ([rounds], Some(rest)) => each(rest, *rounds).map_or(Account::Unclear, Account::First),
        // Several: told apart only where each must have one, since each has at least one.
        ([_, _, ..], Some(rest)) if rest == unknown.iter().sum::<u64>() => Account::First(1),
        _ => Account::Unclear,
    }
}

fn rounds_of(window: &Window<'_>, names: &[&str]) -> u64 {
    let of = |name: &&str| window.pushed.get(*name).and_then(|pushed| pushed.rounds).unwrap_or_default();
    names.iter().map(of).sum()
}

/// `rise` in `rounds` equal parts of at least one.
fn each(rise: u64, rounds: u64) -> Option<u64> {
    (rounds > 0 && rise > 0 && rise.is_multiple_of(rounds)).then(|| rise / rounds)
}

fn of_name(window: &Window<'_>, name: &str, pushed: Pushed, of: &[(Owner, Account)]) -> Judgement {
    let unlearned = |verdict| Judgement { verdict, learned: None };
    let has_risen = of.iter().any(|(_, account)| *account != Account::Still);
    if pushed.refusals > 0 {
        // A NACK is not "not applied": contexts before the one that refused have switched. What rose may also be of
        // another name that shares the user: it cannot be told.
        return unlearned(if has_risen { Verdict::PossiblyApplied } else { Verdict::Refused });
    }
    if !has_risen {
        return unlearned(Verdict::Acknowledged); // 0 of 0 is unknown, and 0 of some is not applied
    }
    if of.iter().all(|(_, account)| *account == Account::Full) {
        return unlearned(Verdict::Proved);
    }
    if !of.iter().all(|(_, account)| matches!(account, Account::Full | Account::First(_))) {
        return unlearned(Verdict::PossiblyApplied);
    }
    let known = window.contexts.get(name);
    let learn = |(owner, account): &(Owner, Account)| {
        let contexts = match account {
            Account::First(each) => *each,
            _ => known.and_then(|known| known.get(owner)).copied().unwrap_or_default(),
        };
        (owner.clone(), contexts)
    };
    let learned: Contexts = of.iter().map(learn).collect();
    // From the beginning of the process no context can have been left behind: each that there is was raised.
    let verdict = if window.is_whole_life { Verdict::Proved } else { Verdict::PossiblyApplied };
    Judgement { verdict, learned: Some(learned) }
}

/// The owners that `names` use together.
#[must_use]
pub fn owners<'a>(now: &Observation, names: impl Iterator<Item = &'a str>) -> BTreeSet<Owner> {
    names.flat_map(|name| users(now, name).cloned().collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests;
