//! How fast new tokens of an identity are made: a caller chooses audiences freely, and each new one costs a signature
//! and a record that is kept. The pace is the identity's, and its callers have equal shares of it: one that asks without
//! end leaves the others theirs.

use std::collections::{BTreeMap, HashMap};

use crate::clock::Timestamp;
use crate::roster::HolderKey;

/// New tokens of one identity that are made at once: twice as many as it can have. A caller has at most half of them,
/// with `n` others that ask too an `n + 2`th part.
pub const TOKEN_BURST: u32 = 512;
/// New tokens of one identity in a second, over time; as many of them for each caller that asks. Renewals, and tokens
/// that are there already, do not count.
pub const TOKENS_PER_SECOND: u32 = 64;

/// What a token counts, where [`TOKENS_PER_SECOND`] is what is worked off in a millisecond.
const TOKEN: u64 = 1000;
const MOST: u64 = TOKEN * TOKEN_BURST as u64;

/// What each identity was given that is not worked off yet at that pace.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<String, Backlog>);

#[derive(Debug, Default)]
struct Backlog {
    /// By who has asked; those who cannot be told apart are one. About a thousand at most: each began with a token.
    callers: HashMap<Option<HolderKey>, u64>,
    /// Until when it is worked off.
    at: Timestamp,
    /// What could not be divided among them.
    rest: u64,
}

impl Pace {
    /// Whether `caller` may have one more of `id` at `now`; it is then counted.
    pub(super) fn allows(&mut self, id: &str, caller: Option<&HolderKey>, now: Timestamp) -> bool {
        let backlog = match self.0.get_mut(id) {
            Some(backlog) => backlog,
            None => self.0.entry(id.to_owned()).or_default(),
        };
        backlog.work_off(now);
        backlog.allows(caller)
    }

    /// Forgets those that could begin anew.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.0.retain(|_, backlog| {
            backlog.work_off(now);
            !backlog.callers.is_empty()
        });
    }
}

impl Backlog {
    fn allows(&mut self, caller: Option<&HolderKey>) -> bool {
        let caller = caller.cloned();
        let mine = self.callers.get(&caller).copied().unwrap_or_default();
        let others = self.callers.len() as u64 - u64::from(mine > 0);
        // One part is always left for who comes next.
        let share = (MOST / (others + 2)).max(TOKEN);
        if mine + TOKEN > share || self.callers.values().sum::<u64>() + TOKEN > MOST {
            return false;
        }
        self.callers.insert(caller, mine + TOKEN);
        true
    }

    /// Works off the same of each, and of the others what one has no need of.
    fn work_off(&mut self, now: Timestamp) {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        if passed == 0 {
            return;
        }
        self.at = now;
        let mut left = passed.saturating_mul(u64::from(TOKENS_PER_SECOND)).saturating_add(self.rest);
        let mut amounts: Vec<u64> = self.callers.values().copied().collect();
        amounts.sort_unstable();
        let (mut others, mut each) = (amounts.len() as u64, u64::MAX);
        for amount in amounts {
            if amount > left / others {
                each = left / others;
                left -= each * others;
                break;
            }
            (left, others) = (left - amount, others - 1);
        }
        self.callers.retain(|_, amount| {
            *amount = amount.saturating_sub(each);
            *amount > 0
        });
        self.rest = if self.callers.is_empty() { 0 } else { left };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BURST: usize = TOKEN_BURST as usize;

    fn start() -> Timestamp {
        Timestamp::from_unix_seconds(1_000_000)
    }

    fn caller(name: &str) -> HolderKey {
        HolderKey::Remote(name.into())
    }

    /// How many of `id` its caller `name` has one after the other.
    fn many(pace: &mut Pace, id: &str, name: &str, now: Timestamp) -> usize {
        (0..10_000).take_while(|_| pace.allows(id, Some(&caller(name)), now)).count()
    }

    #[test]
    fn an_identity_has_its_burst_and_then_its_pace_and_takes_nothing_from_others() {
        let (now, mut pace) = (start(), Pace::default());
        assert_eq!(many(&mut pace, "a", "one", now), BURST / 2);
        assert_eq!(many(&mut pace, "a", "one", now + Duration::from_millis(500)), 32);
        assert_eq!(many(&mut pace, "b", "one", now), BURST / 2);
        let later = now + Duration::from_secs(60);
        assert_eq!(
            many(&mut pace, "a", "one", later),
            BURST / 2,
            "no more than that, however long it waited"
        );
        pace.sweep(later);
        assert_eq!(pace.0.len(), 1);
        pace.sweep(later + Duration::from_secs(60));
        assert!(pace.0.is_empty());
    }

    #[test]
    fn whoever_asks_without_end_leaves_the_others_their_share() {
        let (mut now, mut pace) = (start(), Pace::default());
        let mut had = BTreeMap::<&str, usize>::new();
        for second in 0..60 {
            for _ in 0..100 {
                now = now + Duration::from_millis(10);
                *had.entry("greedy").or_default() += many(&mut pace, "a", "greedy", now);
            }
            if second == 29 {
                assert!(
                    many(&mut pace, "a", "modest", now) > BURST / 4,
                    "there is room at once for who comes"
                );
                had.clear();
            } else if second > 29 {
                *had.entry("modest").or_default() += many(&mut pace, "a", "modest", now);
            }
        }
        // Both ask for all that they can have.
        let (greedy, modest) = (had["greedy"], had["modest"]);
        assert!((30 * 32 - 100..=30 * 32 + 100).contains(&modest), "{greedy} {modest}");
        assert!(greedy <= 30 * 32 + 100, "{greedy} {modest}");
    }

    #[test]
    fn a_crowd_of_callers_has_no_more_than_the_identity_has() {
        let (mut now, mut pace) = (start(), Pace::default());
        let mut crowd = 0..;
        let mut all = |pace: &mut Pace, now| -> usize {
            (&mut crowd).take(2_000).map(|n: u32| many(pace, "a", &n.to_string(), now)).sum()
        };
        assert_eq!(all(&mut pace, now), BURST);
        for _ in 0..20 {
            now = now + Duration::from_secs(1);
            let had = all(&mut pace, now);
            assert!((60..=65).contains(&had), "{had}");
            assert!(pace.0["a"].callers.len() <= 2 * BURST, "{}", pace.0["a"].callers.len());
        }
    }
}
