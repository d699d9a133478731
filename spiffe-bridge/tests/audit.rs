//! The audit log over its store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use serde_json::json;
use spiffe_bridge::audit::{Event, Log};
use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::store::{self, Compare, Store, Transaction};

fn store() -> Store {
    let (store, writer) = store::in_memory().unwrap();
    std::thread::spawn(move || writer.run());
    store
}

fn event(n: u64) -> Event {
    Event::new("svid.issued", format!("spiffe://example.org/{n}"), json!({ "n": n }))
}

fn sequences(log: &Log) -> Vec<u64> {
    log.read(0, 10_000).unwrap().into_iter().map(|record| record.sequence).collect()
}

#[tokio::test]
async fn records_are_numbered_on_over_restarts_and_pruning() {
    let store = store();
    let (clock, hands) = Clock::manual(Timestamp::from_unix_seconds(1000));
    let open = || Log::open(store.clone(), clock.clone()).unwrap();
    let log = open();
    log.append(vec![event(0), event(1)]).await.unwrap();
    hands.advance(Duration::from_secs(100));
    open().append(vec![event(2)]).await.unwrap();
    let log = open();
    assert_eq!(sequences(&log), [0, 1, 2]);
    let last = &log.read(2, 1).unwrap()[0];
    assert_eq!((last.time, &last.event), (1_100_000, &event(2)));
    assert_eq!(log.read(1, 1).unwrap()[0].event, event(1), "the second of its row");
    assert_eq!(log.read(0, 1).unwrap()[0].event, event(0), "no more than asked for");
    assert_eq!(log.prune(Duration::from_secs(60)).await.unwrap(), 1);
    assert_eq!(sequences(&log), [2]);
    hands.advance(Duration::from_secs(100));
    assert_eq!(log.prune(Duration::from_secs(60)).await.unwrap(), 1);
    assert_eq!(log.prune(Duration::from_secs(60)).await.unwrap(), 0);
    let log = open();
    log.append(vec![event(3)]).await.unwrap();
    assert_eq!(sequences(&log), [3], "a number is not used again when all before it are pruned");
}

#[tokio::test]
async fn a_record_is_written_with_what_it_records_or_not_at_all() {
    let store = store();
    let log = Log::open(store.clone(), Clock::system()).unwrap();
    let once = |n| Transaction {
        compares: vec![Compare::Absent("k".into())],
        writes: {
            let mut writes = log.writes([event(n)]);
            writes.push(store::Write::Put { key: "k".into(), value: vec![] });
            writes
        },
    };
    store.transact(once(1)).await.unwrap();
    store.transact(once(2)).await.unwrap_err();
    assert_eq!(sequences(&log), [0]);
}

#[tokio::test]
async fn pruning_goes_in_bounded_steps() {
    let store = store();
    let (clock, hands) = Clock::manual(Timestamp::from_unix_seconds(1000));
    let log = Log::open(store.clone(), clock).unwrap();
    for n in 0..100 {
        log.append(vec![event(n)]).await.unwrap();
    }
    // Of a kilobyte and more, one of which is longer than a row may be.
    let wide = |n: u64| {
        let pad = "x".repeat(if n == 1000 { 40_000 } else { 1000 });
        Event::new("svid.issued", format!("spiffe://example.org/{n}"), json!({ "pad": pad }))
    };
    let writes = log.writes((100..2000).map(wide));
    let lengths = writes.iter().map(|write| match write {
        store::Write::Put { value, .. } => value.len(),
        store::Write::Delete { .. } => panic!("nothing is removed"),
    });
    let long: Vec<usize> = lengths.filter(|length| *length > 31 << 10).collect();
    assert!(matches!(long[..], [40_000..41_000]), "a long one lies alone: {long:?}");
    let rows = writes.len();
    assert!((65..80).contains(&rows), "{rows} rows");
    store.transact(Transaction { compares: Vec::new(), writes }).await.unwrap();
    assert_eq!(sequences(&log), (0..2000).collect::<Vec<_>>(), "in order, over rows and pages");
    assert_eq!(log.read(1000, 1).unwrap()[0].event, wide(1000));
    hands.advance(Duration::from_secs(100));
    let mut steps = Vec::new();
    loop {
        match log.prune(Duration::from_secs(60)).await.unwrap() {
            0 => break,
            removed => steps.push(removed),
        }
    }
    assert_eq!(steps, [64, 64, 100 + rows - 128]);
}
