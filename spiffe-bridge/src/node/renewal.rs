//! When to renew, and when to try again: plain functions of time, and chance beside them.

use std::time::Duration;

use aws_lc_rs::rand;

use crate::clock::Timestamp;

/// How SVIDs are renewed.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The share of its life after which an SVID is renewed, between 0 and 1 (both excluded).
    pub at: f64,
    /// The share by which single SVIDs are earlier or later, so that a fleet that started together does
    /// not renew together: 0.5 ± 0.1 renews between 40 % and 60 %.
    pub spread: f64,
    /// At most so many signatures are asked for at one time.
    pub in_flight: usize,
    /// So many RSA keys of each size that entries ask for are made ahead.
    pub ready_keys: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { at: 0.5, spread: 0.1, in_flight: 1024, ready_keys: 16 }
    }
}

/// When the SVID that `random` octets came with, given out at `issued` and good until `not_after`, is to be renewed.
/// Its place in the spread follows from them, so that it is the same after a restart.
pub(super) fn renew_at(config: &Config, random: &[u8], issued: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = not_after.since(issued).as_secs_f64();
    // The last octets as a number in -1..1.
    let last = random.iter().skip(random.len().saturating_sub(4));
    let random = last.fold(0_u32, |sum, octet| (sum << 8) | u32::from(*octet));
    let place = f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0;
    let after = (life * (config.at + config.spread * place)).clamp(0.0, life);
    issued + Duration::from_secs_f64(after)
}

/// How long to wait after the `failures`-th failure in a row (counted from 1): from a quarter of a second, doubled each time, to a minute
/// at most, and never more than a quarter of the `life_left`, so that several tries always fit in.
/// `jitter` in 0..1 takes up to half of it away.
pub(super) fn retry_after(failures: u32, life_left: Option<Duration>, jitter: f64) -> Duration {
    let doubled = Duration::from_millis(250).saturating_mul(1 << failures.saturating_sub(1).min(10));
    let longest = life_left.map_or(Duration::from_secs(60), |left| (left / 4).min(Duration::from_secs(60)));
    let wait = doubled.min(longest).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
    wait.max(Duration::from_millis(100))
}

/// A random share in 0..1; none where the system has no randomness.
pub(super) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    let filled = rand::fill(&mut bytes).is_ok();
    if filled { f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(config: &Config, last: [u8; 4]) -> Duration {
        let serial = [&[1, 2, 3][..], &last[..]].concat();
        let issued = Timestamp::from_unix_seconds(1_000_000);
        renew_at(config, &serial, issued, issued + HOUR).since(issued)
    }

    #[test]
    fn renewal_comes_at_half_life_and_is_spread_by_the_serial() {
        let config = Config::default();
        assert_eq!(at(&config, [0x7f, 0xff, 0xff, 0xff]).as_millis().div_ceil(1000), 1800);
        assert_eq!(at(&config, [0; 4]).as_millis().div_ceil(1000), 1440);
        assert_eq!(at(&config, [0xff; 4]).as_millis().div_ceil(1000), 2160);
    }

    #[test]
    fn renewal_is_never_after_the_end() {
        let config = Config { at: 0.99, spread: 1.0, ..Config::default() };
        assert!(at(&config, [0xff; 4]) <= HOUR);
    }

    #[test]
    fn retries_back_off_but_leave_time_for_more() {
        let check = |failures, left: Option<u64>, millis| {
            let wait = retry_after(failures, left.map(Duration::from_secs), 0.0);
            assert_eq!(wait.as_millis(), millis, "{failures} failures, {left:?} s left");
        };
        check(1, None, 250);
        check(3, None, 1000);
        check(50, None, 60_000);
        check(50, Some(40), 10_000);
        check(50, Some(0), 100);
        assert_eq!(retry_after(3, None, 1.0).as_millis(), 500);
    }
}
