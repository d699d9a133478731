//! What a caller may take of the quiet threads.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Slot, TURN};

/// One part in so many of a thread's time is a group's, on average: beyond, it is of the crowd.
const SHARE: u32 = 16;
/// So much it may take at once: a push to a thousand streams, and not one to ten thousand.
const MOST: Duration = Duration::from_millis(8);
/// Groups that have ended and are remembered, the last of them. Who has more processes has more turns in any case.
const REMEMBERED: usize = 128;
/// It comes back from the crowd with so much.
const BACK: Duration = Duration::from_millis(4);

/// Where a group runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Quiet,
    Crowd,
}

/// What is left of a group's share.
#[derive(Debug, Clone, Copy)]
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

    /// Whether it has earned all that it may take by `now`.
    fn is_whole(&self, now: Instant) -> bool {
        self.left + self.earned(now) >= MOST
    }

    /// For the time that it has had nothing to do until `now`.
    fn earned(&self, now: Instant) -> Duration {
        self.idle.map_or(Duration::ZERO, |since| now.saturating_duration_since(since) / SHARE)
    }

    /// A turn was taken. One that took much longer than a turn may was interrupted: that is not counted, as a thread of a
    /// busy machine is interrupted whatever it does. Nor is the time earned for which it waited though it had more to do.
    pub(super) fn spend(&mut self, began: Instant, ended: Instant, has_more: bool) {
        let spent = ended.saturating_duration_since(began).min(TURN * 2);
        self.left = (self.left + self.earned(began)).min(MOST).saturating_sub(spent);
        self.idle = (!has_more).then_some(ended);
        self.place = match self.place {
            Place::Quiet if self.left.is_zero() => Place::Crowd,
            Place::Crowd if self.left >= BACK => Place::Quiet,
            place => place,
        };
    }
}

/// What groups that have ended had left of their share. Who comes again soon goes on with that: else a caller whose
/// connections end soon, one after the other, would have a whole share for each.
#[derive(Debug)]
pub(super) struct Ended(VecDeque<(Slot, Credit)>);

impl Ended {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(REMEMBERED)) // whoever accepts does not wait for the allocator
    }

    pub(super) fn remember(&mut self, slot: Slot, credit: Credit) {
        let _ = self.recall(slot);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((slot, credit));
    }

    /// With what a group begins at `now`.
    pub(super) fn begin(&mut self, slot: Slot, now: Instant) -> Credit {
        self.recall(slot).filter(|credit| !credit.is_whole(now)).unwrap_or_else(Credit::new)
    }

    fn recall(&mut self, slot: Slot) -> Option<Credit> {
        let place = self.0.iter().position(|(of, _)| *of == slot)?;
        self.0.remove(place).map(|(_, credit)| credit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Party;
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
        let quiet = turns(&mut credit, 3, TURN, BACK / 2 * SHARE);
        assert_eq!(quiet.last(), Some(&Place::Quiet));
    }

    #[test]
    fn little_work_stays_quiet_for_ever_and_an_interruption_is_not_work() {
        let mut credit = Credit::new();
        let little = turns(&mut credit, 10_000, TURN / 2, TURN / 2 * (SHARE + 2));
        assert!(little.iter().all(|place| *place == Place::Quiet));
        let interrupted = turns(&mut credit, 10, Duration::from_millis(8), Duration::from_millis(1));
        assert!(interrupted.iter().all(|place| *place == Place::Quiet));
    }

    #[test]
    fn who_comes_again_soon_goes_on_with_what_was_left() {
        let (mut ended, slot, now) = (Ended::new(), (Party::Process(1), 0), Instant::now());
        let mut credit = Credit::new();
        turns(&mut credit, 120, TURN, Duration::ZERO);
        let gone = credit.idle.unwrap();
        ended.remember(slot, credit);
        assert_eq!(
            ended.begin((Party::Process(1), 1), gone).place(),
            Place::Quiet,
            "it has a slot of its own"
        );
        let credit = ended.begin(slot, gone + MOST);
        assert_eq!(credit.place(), Place::Crowd);
        ended.remember(slot, credit);
        assert_eq!(ended.begin(slot, gone + MOST * SHARE).place(), Place::Quiet, "it has earned it all");
        for number in 0..1000 {
            ended.remember((Party::Process(number), 0), Credit::new());
        }
        assert_eq!(ended.0.len(), REMEMBERED);
        assert_eq!(ended.begin((Party::Process(2000), 0), now).place(), Place::Quiet);
    }
}
