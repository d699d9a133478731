//! The audit log, read for an operator.

use serde_json::{Value, json};
use spiffe_bridge::audit::{AuditError, Log, Record};
use spiffe_bridge::clock::Timestamp;

use crate::admin::{Records, Trail};

/// The most records of one answer.
const MOST: usize = 1000;
/// The most that are looked through for one answer: of a kind that is rare, the rest is asked for again.
const LOOKED_AT: u64 = 100_000;
const PAGE: usize = 1000;

/// Reads what `trail` asks for.
///
/// # Errors
/// A text for the operator, if the log cannot be read.
pub(super) async fn read(log: Log, trail: Trail) -> Result<Records, String> {
    let read = tokio::task::spawn_blocking(move || look(&log, &trail)).await;
    read.map_err(|_| "the log was not read to its end".to_owned())?.map_err(|error| error.to_string())
}

fn look(log: &Log, trail: &Trail) -> Result<Records, AuditError> {
    let end = log.last()?.map_or(0, |last| last + 1);
    let limit = trail.limit.clamp(1, MOST);
    if let Some(from) = trail.from {
        return forwards(log, from, end, trail, limit);
    }
    // The last ones: numbers that were never written leave gaps, and of a kind there may be few.
    let mut span = limit as u64;
    loop {
        let first = end.saturating_sub(span);
        let mut found = forwards(log, first, end, trail, usize::MAX)?;
        if found.records.len() >= limit || first == 0 || span >= LOOKED_AT {
            found.records.drain(..found.records.len().saturating_sub(limit));
            return Ok(found);
        }
        span = span.saturating_mul(8).min(LOOKED_AT);
    }
}

/// The first `limit` from `first` on.
fn forwards(log: &Log, first: u64, end: u64, trail: &Trail, limit: usize) -> Result<Records, AuditError> {
    let (mut found, mut next, mut looked_at) = (Vec::new(), first, 0);
    while next < end && looked_at < LOOKED_AT {
        let page = log.read(next, PAGE)?;
        if page.is_empty() {
            next = end;
        }
        for record in page {
            if found.len() == limit {
                return Ok(Records { records: found, first, next, end });
            }
            (next, looked_at) = (record.sequence + 1, looked_at + 1);
            found.extend(is_of(&record, trail.kind.as_deref()).then(|| told(record)));
        }
    }
    Ok(Records { records: found, first, next, end })
}

fn is_of(record: &Record, kind: Option<&str>) -> bool {
    let is_below = |kind: &str| {
        record.event.kind.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    kind.is_none_or(is_below)
}

fn told(record: Record) -> Value {
    let Record { sequence, time, event } = record;
    let time = Timestamp::from_unix_millis(time);
    json!({
        "sequence": sequence, "time": time, "kind": event.kind, "subject": event.subject, "detail": event.detail,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spiffe_bridge::audit::Event;
    use spiffe_bridge::clock::{Clock, Hands};
    use spiffe_bridge::store;

    use super::*;

    async fn log() -> (Log, Hands) {
        let (store, writer) = store::in_memory().unwrap();
        std::thread::spawn(move || writer.run());
        let (clock, hands) = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        let log = Log::open(store, clock).unwrap();
        for number in 0..30 {
            let kind = if number % 10 == 0 { "rare.event" } else { "usual" };
            log.append(vec![Event::new(kind, format!("{number}"), json!({}))]).await.unwrap();
        }
        (log, hands)
    }

    async fn asked(log: &Log, from: Option<u64>, kind: Option<&str>, limit: usize) -> (Vec<u64>, u64) {
        let trail = Trail { from, kind: kind.map(str::to_owned), limit };
        let Records { records, next, .. } = read(log.clone(), trail).await.unwrap();
        (records.iter().map(|record| record["sequence"].as_u64().unwrap()).collect(), next)
    }

    #[tokio::test]
    async fn what_is_missing_among_the_numbers_takes_no_place() {
        let (log, hands) = log().await;
        hands.advance(Duration::from_secs(1));
        assert_eq!(log.prune(Duration::ZERO).await.unwrap(), 30);
        assert!(asked(&log, None, None, 3).await.0.is_empty());
        for number in 0..5 {
            log.append(vec![Event::new("usual", format!("{number}"), json!({}))]).await.unwrap();
        }
        assert_eq!(asked(&log, None, None, 9).await, (vec![30, 31, 32, 33, 34], 35));
        assert_eq!(asked(&log, Some(0), Some("usual"), 2).await, (vec![30, 31], 32));
    }

    #[tokio::test]
    async fn the_last_ones_come_or_those_from_a_number_on_and_all_of_a_kind() {
        let (log, _) = log().await;
        assert_eq!(asked(&log, None, None, 3).await, (vec![27, 28, 29], 30));
        assert_eq!(asked(&log, Some(5), None, 3).await, (vec![5, 6, 7], 8));
        assert_eq!(asked(&log, Some(8), None, 3).await, (vec![8, 9, 10], 11));
        assert_eq!(asked(&log, None, Some("rare"), 2).await, (vec![10, 20], 30));
        assert_eq!(asked(&log, Some(0), Some("rare.event"), 2).await, (vec![0, 10], 11));
        assert_eq!(asked(&log, Some(11), Some("rare.event"), 2).await, (vec![20], 30));
        assert_eq!(asked(&log, None, Some("rar"), 9).await, (vec![], 30));
        assert_eq!(asked(&log, Some(30), None, 9).await, (vec![], 30));
    }
}
