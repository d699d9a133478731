use proptest::prelude::*;

use super::*;
use crate::receipts::observation::{Bounds, Error, Secret};
use crate::receipts::otlp;

const LISTENER: &str = "listener.in";

fn seen(version: &str, rejected: u64, updates: &[(&str, u64)]) -> Observation {
    let users = updates.iter().map(|(owner, _)| Owner::new(owner)).collect();
    let secret = Secret { version: Some(xxh64(version.as_bytes())), rejected, users };
    let updates = updates.iter().map(|(owner, count)| (Owner::new(owner), *count)).collect();
    Observation { secrets: [("web".into(), secret)].into(), updates }
}

fn push(answer: Answer) -> Push {
    Push { name: "web".into(), version: "2-b".into(), answer }
}

fn baseline(observed: Observation, contexts: &[(&str, u64)]) -> Baseline {
    let contexts = contexts.iter().map(|(owner, count)| (Owner::new(owner), *count)).collect();
    Baseline { observed: Some(observed), contexts }
}

#[test]
fn every_row() {
    use Answer::{Acked, Awaited, Nacked};
    let before = baseline(seen("1-a", 1, &[(LISTENER, 4)]), &[(LISTENER, 2)]);
    let rows = [
        ("good push", Acked, seen("2-b", 1, &[(LISTENER, 6)]), Verdict::Proved),
        ("flushed before its answer", Awaited, seen("2-b", 1, &[(LISTENER, 6)]), Verdict::Sent),
        ("not flushed yet", Acked, seen("1-a", 1, &[(LISTENER, 4)]), Verdict::Acknowledged),
        ("NACK", Nacked, seen("1-a", 2, &[(LISTENER, 4)]), Verdict::Refused),
        ("NACK, version moved", Nacked, seen("2-b", 2, &[(LISTENER, 4)]), Verdict::Refused),
        ("NACK, one context switched", Nacked, seen("1-a", 2, &[(LISTENER, 5)]), Verdict::PossiblyApplied),
        ("rejected, though ACKed", Acked, seen("2-b", 2, &[(LISTENER, 4)]), Verdict::Refused),
        ("same bytes again", Acked, seen("2-b", 1, &[(LISTENER, 4)]), Verdict::Acknowledged),
        ("smaller rise", Acked, seen("2-b", 1, &[(LISTENER, 5)]), Verdict::PossiblyApplied),
        ("greater rise", Acked, seen("2-b", 1, &[(LISTENER, 7)]), Verdict::PossiblyApplied),
        ("another's version", Acked, seen("3-c", 1, &[(LISTENER, 6)]), Verdict::Acknowledged),
        ("new user", Acked, seen("2-b", 1, &[(LISTENER, 6), ("cluster.up", 1)]), Verdict::PossiblyApplied),
        ("0 of 0", Acked, seen("2-b", 1, &[]), Verdict::Acknowledged),
        ("no statistics", Acked, Observation::default(), Verdict::Acknowledged),
        ("counter went back", Acked, seen("2-b", 1, &[(LISTENER, 2)]), Verdict::Acknowledged),
    ];
    for (row, answer, now, verdict) in rows {
        assert_eq!(judge(&before, &now, &push(answer)), verdict, "{row}");
    }
}

#[test]
fn nothing_is_proved_right_after_a_start() {
    let now = seen("2-b", 0, &[(LISTENER, 2)]);
    assert_eq!(judge(&Baseline::default(), &now, &push(Answer::Acked)), Verdict::Acknowledged);
}

#[test]
fn one_of_two_listeners_lags() {
    let before = baseline(
        seen("1-a", 0, &[("listener.a", 1), ("listener.b", 1)]),
        &[("listener.a", 1), ("listener.b", 1)],
    );
    let now = seen("2-b", 0, &[("listener.a", 2), ("listener.b", 1)]);
    assert_eq!(judge(&before, &now, &push(Answer::Acked)), Verdict::PossiblyApplied);
    assert_eq!(
        learn(&before, &now, &push(Answer::Acked)),
        before.contexts,
        "a frozen context is not forgotten"
    );
}

#[test]
fn contexts_are_learned_from_an_unrefused_push() {
    let before = baseline(seen("1-a", 0, &[(LISTENER, 1)]), &[]);
    let now = seen("2-b", 0, &[(LISTENER, 4)]);
    assert_eq!(judge(&before, &now, &push(Answer::Acked)), Verdict::PossiblyApplied, "how many is not known");
    assert_eq!(learn(&before, &now, &push(Answer::Acked)), Contexts::from([(Owner::new(LISTENER), 3)]));
    assert!(learn(&before, &now, &push(Answer::Nacked)).is_empty());
}

/// Flushes of an Envoy 1.40.0: a listener of two chains and a cluster, each with a leaf and a bundle. The second
/// is after both were replaced by good ones, the third after both were refused.
#[test]
fn a_real_envoy() {
    let read = |bytes: &[u8]| Observation::decode(bytes, Bounds::default()).unwrap();
    let before = read(include_bytes!("../testdata/before.bin"));
    let good = read(include_bytes!("../testdata/good_push.bin"));
    let refused = read(include_bytes!("../testdata/refused.bin"));
    let listener = "listener.127.0.0.1_28443";
    // Two secrets at once: twice the contexts. That is why one change at a time is to be under way.
    let both = [("cluster.up", 2), (listener, 4)];
    for name in ["spiffe://lab.test/web", "ROOTCA"] {
        let push = |version: &str, answer| Push { name: name.into(), version: version.into(), answer };
        let acked = push("8-def", Answer::Acked);
        assert_eq!(judge(&baseline(before.clone(), &both), &good, &acked), Verdict::Proved);
        assert_eq!(judge(&baseline(before.clone(), &[]), &good, &acked), Verdict::PossiblyApplied);
        assert_eq!(judge(&baseline(good.clone(), &both), &good, &acked), Verdict::Acknowledged);
        let nacked = push("9-bad", Answer::Nacked);
        assert_eq!(judge(&baseline(good.clone(), &both), &refused, &nacked), Verdict::Refused);
    }
}

#[test]
fn a_message_is_bounded() {
    let bytes = include_bytes!("../testdata/before.bin");
    let bounds = Bounds { metrics: 7, ..Bounds::default() };
    assert_eq!(Observation::decode(bytes, bounds), Err(Error::TooMany { max: 7 }));
    let bounds = Bounds { message_bytes: 899, ..Bounds::default() };
    assert_eq!(Observation::decode(bytes, bounds), Err(Error::TooLarge { bytes: 900, max: 899 }));
    let bounds = Bounds { name_bytes: 20, ..Bounds::default() };
    assert!(Observation::decode(bytes, bounds).unwrap().updates.is_empty());
}

#[test]
fn deltas_are_refused() {
    use prost::Message as _;
    let mut export = otlp::Export::decode(&include_bytes!("../testdata/before.bin")[..]).unwrap();
    let metrics = export.resources.iter_mut().flat_map(|r| &mut r.scopes).flat_map(|s| &mut s.metrics);
    metrics.filter_map(|metric| metric.sum.as_mut()).for_each(|sum| sum.temporality = 1);
    assert_eq!(Observation::decode(&export.encode_to_vec(), Bounds::default()), Err(Error::Deltas));
}

proptest! {
    /// Proved means: acknowledged, our version, no refusal, and every user rose by its number of contexts.
    #[test]
    fn proof_needs_all_of_it(
        nacked: bool, ours: bool, rejected in 0u64..2,
        users in prop::collection::btree_map("listener\\.[a-c]", (0u64..3, 0u64..3), 0..4),
    ) {
        let list = |of: fn(&(u64, u64)) -> u64| users.iter().map(|(o, n)| (o.as_str(), of(n))).collect::<Vec<_>>();
        let before = baseline(seen("1-a", 0, &list(|_| 0)), &list(|n| n.0));
        let now = seen(if ours { "2-b" } else { "1-a" }, rejected, &list(|n| n.1));
        let answer = if nacked { Answer::Nacked } else { Answer::Acked };
        let full = !users.is_empty() && users.values().all(|n| n.0 == n.1 && n.1 > 0);
        let proved = judge(&before, &now, &push(answer)) == Verdict::Proved;
        prop_assert_eq!(proved, !nacked && ours && rejected == 0 && full);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Observation::decode(&bytes, Bounds::default());
    }
}
