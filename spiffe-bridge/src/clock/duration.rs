//! Durations as people write them: `500ms`, `90s`, `1h30m`, `365d`. For `#[serde(with = "duration")]`.

use std::fmt::Write as _;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

/// The units, greatest first, each in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a duration: write a number and a unit (ms, s, m, h, d), such as 90s or 1h30m")]
pub struct DurationError {
    /// What was given.
    pub text: String,
}

/// Parses one or more pairs of number and unit, greatest unit first.
///
/// # Errors
/// [`DurationError`] for anything else, a bare number included: 60 of what?
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    parts(text).map(Duration::from_millis).ok_or_else(|| DurationError { text: text.to_owned() })
}

fn parts(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut greatest = u64::MAX;
    let mut total: u64 = 0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let &(_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
        if millis >= greatest {
            return None;
        }
        greatest = millis;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        if after.is_empty() {
            return Some(total);
        }
        rest = after;
    }
}

/// Writes a duration so that [`parse`] reads it back; less than a millisecond is dropped.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if left >= millis {
            let _ = write!(text, "{}{unit}", left / millis);
            left %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// For `#[serde(with)]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with)]`.
///
/// # Errors
/// As [`parse`], and those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        let check = |text, expected: Option<u64>| {
            assert_eq!(parse(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("500ms", Some(500));
        check("90s", Some(90_000));
        check("1h30m", Some(5_400_000));
        check("365d", Some(31_536_000_000));
        check("0s", Some(0));
        for wrong in ["", "60", "h", "1h1h", "1s1m", "-1s", "1.5h", "1 h", "1H", "99999999999999999999d"] {
            check(wrong, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
