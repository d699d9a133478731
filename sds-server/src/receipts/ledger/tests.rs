use spiffe_bridge::identity::Revision;

use super::*;
use crate::receipts::observation::{Owner, Secret};
use crate::receipts::tracker::Life;
use crate::receipts::xxh64::xxh64;
use crate::sds::Lines;
use crate::sds::nack::Reason;

fn version(n: u64) -> Version {
    Version { revision: Revision(n), hash: ContentHash::of(&[&n.to_be_bytes()]) }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

fn told(name: &str, n: u64, answer: Option<Result<(), Reason>>) -> Told {
    let is_taken = matches!(answer, Some(Ok(())));
    Told {
        stream: 1,
        connection: 1,
        has_past: false,
        name: name.into(),
        sends: 1,
        acks: u32::from(is_taken),
        nacks: u32::from(matches!(answer, Some(Err(_)))),
        sent: version(n),
        sent_at: at(1),
        is_claim: false,
        answer: answer.map(|answer| (answer, at(2))),
        acked: is_taken.then(|| version(n)),
    }
}

fn look(told: Vec<Told>) -> Look {
    let (left, fetched, special) = (Vec::new(), Vec::new(), BTreeMap::new());
    Look { streams: 1, update: None, told, left, fetched, special, lines: Lines::default() }
}

const ACK: Option<Result<(), Reason>> = Some(Ok(()));

fn nack() -> Option<Result<(), Reason>> {
    Some(Err(Reason::scrub(13, "OCSP")))
}

fn standings(settled: &Settled) -> Vec<(&str, Standing, Means)> {
    settled.changed.iter().map(|(name, row)| (&**name, row.standing, row.means)).collect()
}

#[test]
fn answers_alone_never_prove_and_what_stands_is_said_once() {
    let mut ledger = Ledger::new(By::Process(Life::Whole), Vec::new());
    let rows = [("ROOTCA", 1, ACK), ("default", 2, None), ("peers", 3, nack())];
    let look = look(rows.into_iter().map(|(name, n, answer)| told(name, n, answer)).collect());
    let settled = ledger.settle(&look, None, at(3));
    let expected = [
        ("ROOTCA", Standing::Acknowledged, Means::Answer),
        ("default", Standing::Sent, Means::Sending),
        ("peers", Standing::Refused, Means::Answer),
    ];
    assert_eq!(standings(&settled), expected);
    assert!(!ledger.has_statistics());
    assert_eq!(ledger.settle(&look, None, at(9)), Settled::default());
}

#[test]
fn the_weakest_of_several_streams_speaks_for_a_name() {
    let mut ledger = Ledger::new(By::Process(Life::Whole), Vec::new());
    let other = Told { stream: 2, ..told("ROOTCA", 2, None) };
    let settled = ledger.settle(&look(vec![told("ROOTCA", 2, ACK), other]), None, at(3));
    assert_eq!(standings(&settled), [("ROOTCA", Standing::Sent, Means::Sending)]);
    let older = Told { stream: 2, ..told("ROOTCA", 1, ACK) };
    let settled = ledger.settle(&look(vec![told("ROOTCA", 3, ACK), older]), None, at(3));
    assert_eq!(settled.changed[0].1.standing, Standing::Sent, "one has only the older version");
}

fn flush(roots: u64, web: u64, updates: u64) -> Observation {
    let owner = Owner::new("listener.in");
    let secret = |n: u64| Secret {
        version: Some(xxh64(version(n).to_string().as_bytes())),
        rejected: 0,
        users: [owner.clone()].into(),
    };
    Observation {
        secrets: [("ROOTCA".into(), secret(roots)), ("default".into(), secret(web))].into(),
        updates: [(owner, updates)].into(),
    }
}

#[test]
fn the_first_change_of_roots_after_a_restart_is_proved_by_other_bytes() {
    let mut ledger = Ledger::new(By::Process(Life::Unknown), Vec::new());
    let mut streams = look(vec![told("ROOTCA", 1, ACK), told("default", 1, ACK)]);
    ledger.settle(&streams, Some((1, flush(1, 1, 10))), at(3));
    let push = |streams: &mut Look, version: Version| {
        let roots = &mut streams.told[0];
        (roots.sends, roots.acks, roots.sent, roots.acked) =
            (roots.sends + 1, roots.acks + 1, version, Some(version));
    };
    push(&mut streams, version(2));
    let settled = ledger.settle(&streams, Some((1, flush(2, 1, 11))), at(4));
    assert_eq!(standings(&settled), [("ROOTCA", Standing::PossiblyApplied, Means::Statistics)]);
    assert_eq!(settled.redress, [("ROOTCA".into(), version(2).hash, 1)]);
    // It goes out as version 102, which wears the content of version 2.
    push(&mut streams, version(102));
    let worn = Some((version(102).hash, version(2)));
    let dress = Some((version(2).hash, 1));
    streams.special.insert("ROOTCA".into(), Special { worn, dress, ..Special::default() });
    let settled = ledger.settle(&streams, Some((1, flush(102, 1, 12))), at(5));
    assert_eq!(standings(&settled), [("ROOTCA", Standing::ProvedApplied, Means::Statistics)]);
    assert_eq!((settled.changed[0].1.version, settled.changed[0].1.dress), (version(2), 1), "by its content");
    assert!(settled.redress.is_empty());
}

#[test]
fn roots_that_were_refused_beside_a_certificate_come_again_when_it_is_replaced() {
    let mut ledger = Ledger::new(By::Process(Life::Whole), Vec::new());
    let settle = |ledger: &mut Ledger, roots, web_version, web| {
        let look = look(vec![told("ROOTCA", 2, roots), told("default", web_version, web)]);
        ledger.settle(&look, None, at(3)).redress
    };
    assert!(settle(&mut ledger, None, 1, nack()).is_empty());
    assert!(settle(&mut ledger, nack(), 1, nack()).is_empty(), "they would be refused again");
    assert!(settle(&mut ledger, nack(), 2, None).is_empty(), "the new certificate is not taken yet");
    assert_eq!(settle(&mut ledger, nack(), 2, ACK), [("ROOTCA".into(), version(2).hash, 1)]);
    assert!(settle(&mut ledger, nack(), 2, ACK).is_empty(), "once");
}

#[test]
fn what_is_held_back_for_a_refusal_of_an_earlier_run_comes_again_too() {
    let refused = NameRow {
        standing: Standing::Refused,
        refusals: vec![refusal()],
        ..fetched(version(1), at(1), None)
    };
    let mut ledger = Ledger::new(By::Process(Life::Unknown), vec![("default".into(), refused)]);
    let mut streams = look(vec![told("default", 2, ACK)]);
    streams.special.insert("ROOTCA".into(), Special { held_back: Some(version(7)), ..Special::default() });
    assert_eq!(ledger.settle(&streams, None, at(3)).redress, [("ROOTCA".into(), version(7).hash, 1)]);
}

fn refusal() -> spiffe_bridge::roster::Refusal {
    spiffe_bridge::roster::Refusal { hash: version(1).hash, kind: "ocsp".into(), at: at(1) }
}

#[test]
fn a_fetch_forgets_neither_what_was_refused_nor_what_it_is_worn_by() {
    let mut ledger = Ledger::new(By::Process(Life::Whole), Vec::new());
    let mut fetches = look(Vec::new());
    fetches.fetched = vec![("ROOTCA".into(), version(102), at(2))];
    let (worn, dress) = (Some((version(102).hash, version(2))), Some((version(2).hash, 1)));
    let special = Special { worn, dress, refused: vec![refusal()], ..Special::default() };
    fetches.special.insert("ROOTCA".into(), special);
    let (_, row) = &ledger.settle(&fetches, None, at(3)).changed[0];
    assert_eq!((row.version, row.dress, &row.refusals), (version(2), 1, &vec![refusal()]));
}

#[test]
fn a_name_that_nobody_asks_for_any_more_is_dropped_unless_the_client_is_away() {
    let mut ledger = Ledger::new(By::Process(Life::Whole), Vec::new());
    ledger.settle(&look(vec![told("ROOTCA", 1, ACK), told("default", 1, ACK)]), None, at(10));
    let away = Look { streams: 0, ..look(Vec::new()) };
    ledger.settle(&away, None, at(20));
    assert!(ledger.settle(&away, None, at(1000)).dropped.is_empty(), "cut off, it holds what it holds");
    let one = look(vec![told("default", 1, ACK)]);
    assert!(ledger.settle(&one, None, at(2000)).dropped.is_empty());
    assert!(ledger.waits());
    assert!(ledger.settle(&one, None, at(2059)).dropped.is_empty(), "its stream may come back");
    assert_eq!(ledger.settle(&one, None, at(2060)).dropped, [Box::from("ROOTCA")]);
    assert!(!ledger.waits());
}

#[test]
fn what_a_stream_said_before_it_ended_counts() {
    let mut ledger = Ledger::new(By::Process(Life::Whole), Vec::new());
    let left = Look { streams: 0, left: vec![told("default", 1, ACK)], ..look(Vec::new()) };
    assert_eq!(
        standings(&ledger.settle(&left, None, at(3))),
        [("default", Standing::Acknowledged, Means::Answer)]
    );
}
