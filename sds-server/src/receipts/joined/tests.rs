use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{ContentHash, Revision};

use super::*;
use crate::receipts::observation::{Owner, Secret};
use crate::receipts::xxh64::xxh64;
use crate::sds::Lines;
use crate::sds::nack::Reason;

fn version(n: u64) -> Version {
    Version { revision: Revision(n), hash: ContentHash::of(&[&n.to_be_bytes()]) }
}

/// `name` in version `n`, sent once over `connection` and taken.
fn told(connection: u64, name: &str, n: u64) -> Told {
    let at = Timestamp::default();
    Told {
        stream: connection,
        connection,
        has_past: false,
        name: name.into(),
        sends: 1,
        acks: 1,
        nacks: 0,
        sent: version(n),
        sent_at: at,
        is_claim: false,
        answer: Some((Ok(()), at)),
        acked: Some(version(n)),
    }
}

fn look(mut told: Vec<Told>) -> Look {
    told.sort_by(|a, b| (&a.name, a.stream).cmp(&(&b.name, b.stream)));
    let (left, fetched, special, lines) = (Vec::new(), Vec::new(), BTreeMap::new(), Lines::default());
    Look { streams: told.len(), update: None, told, left, fetched, special, lines }
}

/// The flush of an Envoy whose one listener uses `names`, each in its version, and took so many changes.
fn flush(names: &[(&str, u64)], updates: u64) -> Observation {
    let owner = Owner::new("listener.in");
    let secret = |n: u64| Secret {
        version: Some(xxh64(version(n).to_string().as_bytes())),
        rejected: 0,
        users: [owner.clone()].into(),
    };
    Observation {
        secrets: names.iter().map(|(name, n)| ((*name).into(), secret(*n))).collect(),
        updates: [(owner.clone(), updates)].into(),
    }
}

fn verdict(joined: &Joined, look: &Look, n: u64) -> Option<Verdict> {
    joined.known("ROOTCA", version(n), &look.told).map(|known| known.verdict)
}

#[test]
fn counters_prove_what_went_over_their_own_connection() {
    let mut joined = Joined::new(By::Connection);
    let look = look(vec![told(1, "ROOTCA", 7), told(2, "ROOTCA", 7)]);
    joined.flushed(1, flush(&[("ROOTCA", 7)], 1), &look);
    assert_eq!(verdict(&joined, &look, 7), None, "of the other nothing is known");
    assert_eq!((joined.hearing(1), joined.hearing(2)), (Hearing::Joined, Hearing::Silent));
    assert!(!joined.hears_all(&look.told));
    joined.flushed(2, flush(&[("ROOTCA", 7)], 1), &look);
    assert_eq!(verdict(&joined, &look, 7), Some(Verdict::Proved));
    assert!(joined.hears_all(&look.told));
}

#[test]
fn a_process_is_one_whatever_its_connections() {
    let mut joined = Joined::new(By::Process(Life::Whole));
    let look = look(vec![told(1, "ROOTCA", 7)]);
    joined.flushed(2, flush(&[("ROOTCA", 7)], 1), &look);
    assert_eq!(verdict(&joined, &look, 7), Some(Verdict::Proved));
    assert_eq!(joined.hearing(1), Hearing::Joined);
}

#[test]
fn one_that_refused_and_one_that_took_it_are_in_use_in_places() {
    let mut joined = Joined::new(By::Connection);
    let refused = Told {
        acks: 0,
        nacks: 1,
        answer: Some((Err(Reason::scrub(13, "OCSP")), Timestamp::default())),
        acked: None,
        ..told(2, "ROOTCA", 7)
    };
    let look = look(vec![told(1, "ROOTCA", 7), refused]);
    joined.flushed(1, flush(&[("ROOTCA", 7)], 1), &look);
    let mut other = flush(&[("ROOTCA", 7)], 0);
    other.secrets.values_mut().for_each(|secret| (secret.version, secret.rejected) = (None, 1));
    joined.flushed(2, other, &look);
    assert_eq!(verdict(&joined, &look, 7), Some(Verdict::PossiblyApplied));
}

#[test]
fn who_said_that_it_held_something_is_not_at_its_beginning() {
    let mut joined = Joined::new(By::Connection);
    let look = look(vec![Told { has_past: true, ..told(1, "ROOTCA", 7) }]);
    joined.flushed(1, flush(&[("ROOTCA", 7)], 1), &look);
    assert_eq!(verdict(&joined, &look, 7), None);
}

#[test]
fn counters_that_may_be_of_more_than_one_prove_nothing() {
    // A secret that came from elsewhere: over another connection, or of another server.
    let mut joined = Joined::new(By::Connection);
    let one = look(vec![told(1, "ROOTCA", 7)]);
    joined.flushed(1, flush(&[("ROOTCA", 7), ("default", 3)], 2), &one);
    assert_eq!((joined.hearing(1), verdict(&joined, &one, 7)), (Hearing::Unclear, None));
    // What was sent over it and was taken back is its own.
    let mut joined = Joined::new(By::Connection);
    let mut back = look(vec![told(1, "ROOTCA", 7)]);
    back.lines.withdrawn.insert((1, "default".into()));
    joined.flushed(1, flush(&[("ROOTCA", 7), ("default", 3)], 2), &back);
    assert_eq!(joined.hearing(1), Hearing::Joined);
    // Two nodes: a proxy of several Envoys.
    let mut joined = Joined::new(By::Connection);
    let mut two = look(vec![told(1, "ROOTCA", 7)]);
    two.lines.mixed.insert(1);
    joined.flushed(1, flush(&[("ROOTCA", 7)], 1), &two);
    assert_eq!((joined.hearing(1), verdict(&joined, &two, 7)), (Hearing::Unclear, None));
}

#[test]
fn connections_are_bounded_and_go_with_their_streams() {
    let mut joined = Joined::new(By::Connection);
    let count = u64::try_from(CONNECTIONS).unwrap() + 1;
    let all = look((1..=count).map(|connection| told(connection, "ROOTCA", 7)).collect());
    (1..=count).for_each(|connection| joined.flushed(connection, flush(&[("ROOTCA", 7)], 1), &all));
    assert_eq!((joined.lines.len(), joined.hearing(count)), (CONNECTIONS, Hearing::Silent));
    assert_eq!(verdict(&joined, &all, 7), None, "the one beyond speaks for all");
    joined.retain(&look(vec![told(5, "ROOTCA", 7)]));
    assert_eq!(joined.lines.len(), 1);
    // Whose streams are told of nothing is not kept at all.
    joined.flushed(9, flush(&[("ROOTCA", 7)], 1), &look(vec![told(5, "ROOTCA", 7)]));
    assert_eq!(joined.lines.len(), 1);
}
