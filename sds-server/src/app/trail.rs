//! The audit log, read for an operator.

use std::collections::VecDeque;

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
    let (limit, end) = (trail.limit.clamp(1, MOST), log.end());
    let mut at = match (trail.from, &trail.kind) {
        (Some(from), _) => from,
        (None, None) => end.saturating_sub(limit as u64),
        (None, Some(_)) => end.saturating_sub(LOOKED_AT),
    };
    let (stop, mut found) = (end.min(at.saturating_add(LOOKED_AT)), VecDeque::new());
    while at < stop {
        let page = log.read(at, PAGE)?;
        let Some(last) = page.last() else { break };
        let behind = last.sequence + 1;
        for record in page.into_iter().filter(|record| is_of(record, trail.kind.as_deref())) {
            if found.len() == limit {
                if trail.from.is_some() {
                    return Ok(Records { records: found.into(), next: at });
                }
                found.pop_front();
            }
            at = record.sequence + 1;
            found.push_back(told(record));
        }
        at = behind;
    }
    Ok(Records { records: found.into(), next: at })
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
    use spiffe_bridge::audit::Event;
    use spiffe_bridge::clock::Clock;
    use spiffe_bridge::store;

    use super::*;

    async fn log() -> Log {
        let (store, writer) = store::in_memory().unwrap();
        std::thread::spawn(move || writer.run());
        let log = Log::open(store, Clock::system()).unwrap();
        for number in 0..30 {
            let kind = if number % 10 == 0 { "rare.event" } else { "usual" };
            log.append(vec![Event::new(kind, format!("{number}"), json!({}))]).await.unwrap();
        }
        log
    }

    async fn asked(log: &Log, from: Option<u64>, kind: Option<&str>, limit: usize) -> (Vec<u64>, u64) {
        let trail = Trail { from, kind: kind.map(str::to_owned), limit };
        let Records { records, next } = read(log.clone(), trail).await.unwrap();
        (records.iter().map(|record| record["sequence"].as_u64().unwrap()).collect(), next)
    }

    #[tokio::test]
    async fn the_last_ones_come_or_those_from_a_number_on_and_all_of_a_kind() {
        let log = log().await;
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
