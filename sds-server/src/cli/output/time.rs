//! Times as the server writes them, for people.

use std::time::{Duration, SystemTime};

use spiffe_bridge::clock::duration;

/// `2027-11-23T21:34:15Z` as `2027-11-23 21:34:15Z (in 364d)`; `None` if `text` is no such time.
pub(super) fn for_people(text: &str, now: SystemTime) -> Option<String> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    // People read no milliseconds.
    let time = time.split('.').next()?;
    let [hour, minute, second] = numbers(time, ':')?;
    let days = days_since_1970(year, month, day)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let away = match (at.duration_since(now), now.duration_since(at)) {
        (Ok(left), _) if left.as_secs() > 0 => format!("in {}", roughly(left)),
        (_, Ok(past)) if past.as_secs() > 0 => format!("{} ago", roughly(past)),
        _ => "now".to_owned(),
    };
    Some(format!("{date} {time}Z ({away})"))
}

/// Its greatest unit: `3d` of three days and some hours.
fn roughly(time: Duration) -> String {
    let seconds = time.as_secs();
    let unit = [86_400, 3600, 60].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    duration::format(Duration::from_secs(seconds - seconds % unit))
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(separator).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Of the Gregorian calendar; `None` for what is no date since 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    (year * 365 + leap_days + (153 * month + 2) / 5 + day - 1).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_tells_how_far_off_it_is() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_487_655); // 2026-11-24T02:34:15Z
        let check = |text, expected: &str| assert_eq!(for_people(text, now).as_deref(), Some(expected));
        check("2026-11-24T02:34:15Z", "2026-11-24 02:34:15Z (now)");
        check("2026-11-24T03:34:14.250Z", "2026-11-24 03:34:14Z (in 59m)");
        check("2026-11-23T01:00:00Z", "2026-11-23 01:00:00Z (1d ago)");
        check("2028-02-29T02:34:15Z", "2028-02-29 02:34:15Z (in 462d)");
    }

    #[test]
    fn what_is_no_time_is_left_alone() {
        for text in ["", "web", "2026-13-01T00:00:00Z", "2026-01-01", "1-2-3T4:5Z", "spiffe://a/TZ"] {
            assert_eq!(for_people(text, SystemTime::UNIX_EPOCH), None, "{text}");
        }
    }
}
