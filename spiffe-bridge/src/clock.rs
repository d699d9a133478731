//! Time: the system's, and one that tests wind by hand.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

pub mod duration;
mod seldom;

pub use seldom::Seldom;

/// A point in time: whole milliseconds since the Unix epoch, UTC. Never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The point `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The point `seconds` seconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// RFC 3339, UTC, with milliseconds where there are any.
struct Text {
    octets: [u8; 24],
    length: usize,
}

impl Text {
    /// `None` of a year of more than four digits.
    fn of(time: Timestamp) -> Option<Self> {
        let seconds = i64::try_from(time.unix_seconds()).unwrap_or(i64::MAX);
        let t = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        let year = u32::try_from(t.year()).ok().filter(|year| *year < 10_000)?;
        let ((h, m, s), millis) = (t.to_hms(), u32::try_from(time.0 % 1000).unwrap_or_default());
        let date = [(year, 0..4), (u8::from(t.month()).into(), 5..7), (t.day().into(), 8..10)];
        let time = [(h.into(), 11..13), (m.into(), 14..16), (s.into(), 17..19), (millis, 20..23)];
        let mut octets = *b"0000-00-00T00:00:00.000Z";
        for (mut value, place) in date.into_iter().chain(time) {
            for digit in octets.get_mut(place).into_iter().flatten().rev() {
                *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
                value /= 10;
            }
        }
        if millis == 0 {
            octets[19] = b'Z';
        }
        Some(Self { octets, length: if millis == 0 { 20 } else { 24 } })
    }

    fn as_str(&self) -> &str {
        self.octets.get(..self.length).and_then(|octets| str::from_utf8(octets).ok()).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Text::of(*self) {
            Some(text) => f.write_str(text.as_str()),
            None => write!(f, "@{}", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Text::of(*self) {
            // In one piece: each issuance has two of them on record.
            Some(text) => serializer.serialize_str(text.as_str()),
            None => serializer.collect_str(self),
        }
    }
}

/// Where the time comes from. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<watch::Sender<Timestamp>>),
}

/// Winds the [`Clock`] that was made with it.
#[derive(Clone, Debug)]
pub struct Hands(Arc<watch::Sender<Timestamp>>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until its [`Hands`] are moved.
    #[must_use]
    pub fn manual(start: Timestamp) -> (Self, Hands) {
        let sender = Arc::new(watch::Sender::new(start));
        (Self(Source::Manual(sender.clone())), Hands(sender))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Returns once `deadline` has come. The system's clock is looked at again at least once a
    /// minute, so that a machine that slept, or whose clock was set, is not late by its nap.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        match &self.0 {
            Source::System => loop {
                let left = deadline.since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(60))).await;
            },
            Source::Manual(now) => {
                let mut now = now.subscribe();
                // The sender lives in `self`, so waiting can only end with the deadline.
                let _ = now.wait_for(|now| *now >= deadline).await;
            }
        }
    }
}

impl Hands {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = *now + by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_print_as_rfc_3339() {
        let check = |millis, expected: &str| {
            assert_eq!(Timestamp::from_unix_millis(millis).to_string(), expected);
        };
        check(0, "1970-01-01T00:00:00Z");
        check(1_795_469_655_042, "2026-11-23T21:34:15.042Z");
        check(253_402_300_799_900, "9999-12-31T23:59:59.900Z");
        check(253_402_300_800_000, "@253402300800000");
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_it_is_wound() {
        let (clock, hands) = Clock::manual(Timestamp::from_unix_seconds(100));
        let deadline = clock.now() + Duration::from_secs(5);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(deadline).await;
                clock.now()
            }
        });
        hands.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hands.advance(Duration::from_secs(1));
        assert_eq!(sleeper.await.unwrap(), deadline);
    }
}
