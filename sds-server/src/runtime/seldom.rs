//! A bound on the rate of one log line that a peer could cause at will.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one event through each period and counts the rest.
#[derive(Debug)]
pub struct Seldom {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Seldom {
    /// One event each `period`.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period, state: Mutex::default() }
    }

    /// Counts an event at `now`. `Some` if it may be logged: with how many were kept back since the last.
    pub fn event(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < self.period) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_gives_one_line_a_period() {
        let seldom = Seldom::new(Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!(seldom.event(start), Some(0));
        assert_eq!(seldom.event(start + Duration::from_secs(1)), None);
        assert_eq!(seldom.event(start + Duration::from_secs(9)), None);
        assert_eq!(seldom.event(start + Duration::from_secs(10)), Some(2));
        assert_eq!(seldom.event(start + Duration::from_secs(20)), Some(0));
    }
}
