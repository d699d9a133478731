//! A bound on the rate of log lines that a peer could cause at will.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one event through each period, or a few, and counts the rest.
#[derive(Debug)]
pub struct Seldom {
    period: Duration,
    at_once: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the period began.
    last: Option<Instant>,
    passed: u32,
    suppressed: u64,
}

impl Seldom {
    /// One event each `period`.
    #[must_use]
    pub const fn new(period: Duration) -> Self {
        Self::several(1, period)
    }

    /// So many events each `period`.
    #[must_use]
    pub const fn several(at_once: u32, period: Duration) -> Self {
        Self { period, at_once, state: Mutex::new(State { last: None, passed: 0, suppressed: 0 }) }
    }

    /// Counts an event at `now`. `Some` if it may be logged: with how many were kept back since the last.
    pub fn event(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < self.period) {
            if state.passed < self.at_once {
                state.passed += 1;
                return Some(0);
            }
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        state.passed = 1;
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

    #[test]
    fn a_few_may_come_at_once() {
        let seldom = Seldom::several(3, Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!([(); 5].map(|()| seldom.event(start)), [Some(0), Some(0), Some(0), None, None]);
        assert_eq!(seldom.event(start + Duration::from_secs(10)), Some(2));
    }
}
