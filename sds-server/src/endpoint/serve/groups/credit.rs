//! What a caller may take of the quiet threads.

use std::time::{Duration, Instant};

use super::TURN;

/// One part in so many of a thread's time is a group's, on average: beyond, it is of the crowd.
const SHARE: u32 = 8;
/// So much it may take at once: a push to a thousand streams, and not one to ten thousand.
const MOST: Duration = Duration::from_millis(8);
/// It comes back from the crowd with so much.
const BACK: Duration = Duration::from_millis(4);

/// Where a group runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Quiet,
    Crowd,
}

/// What is left of a group's share.
#[derive(Debug)]
pub(super) struct Credit {
    left: Duration,
    /// Since when it has had nothing to do.
    idle: Option<Instant>,
    place: Place,
}

impl Credit {
    pub(super) fn new() -> Self {
        Self { left: MOST, idle: None, place: Place::Quiet }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// A turn was taken. One that took much longer than a turn may was interrupted: that is not counted, as a thread of a
    /// busy machine is interrupted whatever it does. Nor is the time earned for which it waited though it had more to do.
    pub(super) fn spend(&mut self, began: Instant, ended: Instant, has_more: bool) {
        let earned = self.idle.map_or(Duration::ZERO, |since| began.saturating_duration_since(since) / SHARE);
        let spent = ended.saturating_duration_since(began).min(TURN * 2);
        self.left = (self.left + earned).min(MOST).saturating_sub(spent);
        self.idle = (!has_more).then_some(ended);
        self.place = match self.place {
            Place::Quiet if self.left.is_zero() => Place::Crowd,
            Place::Crowd if self.left >= BACK => Place::Quiet,
            place => place,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes turns of `length`, each after a pause, and says where the group was in each.
    fn turns(credit: &mut Credit, count: u32, length: Duration, pause: Duration) -> Vec<Place> {
        let mut now = credit.idle.unwrap_or_else(Instant::now);
        (0..count)
            .map(|_| {
                now += pause;
                credit.spend(now, now + length, false);
                now += length;
                credit.place()
            })
            .collect()
    }

    #[test]
    fn who_takes_turn_after_turn_goes_to_the_crowd_and_comes_back_when_it_is_quiet() {
        let mut credit = Credit::new();
        let busy = turns(&mut credit, 120, TURN, Duration::ZERO);
        assert!(busy[..79].iter().all(|place| *place == Place::Quiet), "a burst is no crowd");
        assert_eq!(busy.last(), Some(&Place::Crowd));
        let paused = turns(&mut credit, 1, TURN, Duration::from_millis(10));
        assert_eq!(paused, [Place::Crowd], "a short pause is not enough");
        let (now, later) = (credit.idle.unwrap(), Duration::from_secs(1000));
        credit.spend(now, now + TURN, true);
        credit.spend(now + later, now + later + TURN, false);
        assert_eq!(credit.place(), Place::Crowd, "it waited that long with work to do");
        let quiet = turns(&mut credit, 3, TURN, Duration::from_millis(40));
        assert_eq!(quiet.last(), Some(&Place::Quiet));
    }

    #[test]
    fn little_work_stays_quiet_for_ever_and_an_interruption_is_not_work() {
        let mut credit = Credit::new();
        let little = turns(&mut credit, 10_000, TURN / 2, TURN * 5);
        assert!(little.iter().all(|place| *place == Place::Quiet));
        let interrupted = turns(&mut credit, 10, Duration::from_millis(8), Duration::from_millis(1));
        assert!(interrupted.iter().all(|place| *place == Place::Quiet));
    }
}
