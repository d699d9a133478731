//! How fast new tokens of an identity are made: a caller chooses audiences freely, and each new one costs a signature
//! and a record that is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;

/// New tokens of one identity that are made at once: twice as many as it can have.
pub const TOKEN_BURST: u32 = 512;
/// New tokens of one identity in a second, over time. Renewals, and tokens that are there already, do not count.
pub const TOKENS_PER_SECOND: u32 = 64;

const INTERVAL: Duration = Duration::from_millis(1000 / TOKENS_PER_SECOND as u64);

/// Until when what each identity was given is paid for at that pace.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<String, Timestamp>);

impl Pace {
    /// Whether `id` may have one more at `now`; it is then counted.
    pub(super) fn allows(&mut self, id: &str, now: Timestamp) -> bool {
        let paid = self.0.get(id).copied().unwrap_or(now).max(now);
        if paid >= now + INTERVAL * TOKEN_BURST {
            return false;
        }
        let until = paid + INTERVAL;
        match self.0.get_mut(id) {
            Some(held) => *held = until,
            None => drop(self.0.insert(id.to_owned(), until)),
        }
        true
    }

    /// Forgets those that could begin anew.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.0.retain(|_, paid| *paid > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_its_burst_and_then_its_pace_and_takes_nothing_from_others() {
        let now = Timestamp::from_unix_seconds(1_000_000);
        let mut pace = Pace::default();
        let many = |pace: &mut Pace, id: &str, now| (0..10_000).take_while(|_| pace.allows(id, now)).count();
        let burst = TOKEN_BURST as usize;
        assert_eq!(many(&mut pace, "a", now), burst);
        assert_eq!(many(&mut pace, "a", now + Duration::from_millis(150)), 10);
        assert_eq!(many(&mut pace, "b", now), burst);
        let later = now + Duration::from_secs(60);
        assert_eq!(many(&mut pace, "a", later), burst, "no more than that, however long it waited");
        pace.sweep(later);
        assert_eq!(pace.0.len(), 1);
        pace.sweep(later + Duration::from_secs(60));
        assert!(pace.0.is_empty());
    }
}
