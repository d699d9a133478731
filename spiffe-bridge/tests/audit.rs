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
    let once = || Transaction {
        compares: vec![Compare::Absent("k".into())],
        writes: vec![store::Write::Put { key: "k".into(), value: vec![] }],
    };
    log.append_with([event(1)], once()).await.unwrap();
    log.append_with([event(2)], once()).await.unwrap_err();
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
    log.append((100..2000).map(wide).collect()).await.unwrap();
    let rows = store.list(b"audit/").unwrap().split_off(100);
    let long: Vec<_> =
        rows.iter().map(|(_, row)| row.value.len()).filter(|length| *length > 31 << 10).collect();
    assert!(matches!(long[..], [40_000..41_000]), "a long one lies alone: {long:?}");
    let rows = rows.len();
    assert!((65..80).contains(&rows), "{rows} rows");
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

/// A store's revision rises with each transaction: who reads the log up to some record and then what comes after it has
/// seen all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_become_durable_in_the_order_of_their_numbers_whoever_writes() {
    let store = store();
    let log = Log::open(store.clone(), Clock::system()).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let log = log.clone();
        writers.spawn(async move {
            for n in 0..200 {
                log.append((0..n % 5 + 1).map(event).collect()).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let rows = store.list(b"audit/").unwrap();
    let revisions: Vec<_> = rows.iter().map(|(_, row)| row.revision).collect();
    assert_eq!(revisions.len(), 16 * 200);
    assert!(revisions.is_sorted(), "a row was written before one with a lower number");
}
