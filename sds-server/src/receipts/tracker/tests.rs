use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{ContentHash, Revision};

use super::*;
use crate::receipts::observation::{Owner, Secret};
use crate::sds::nack::Reason;

fn version(n: u64) -> Version {
    Version { revision: Revision(n), hash: ContentHash::of(&[&n.to_be_bytes()]) }
}

/// What the flush of an Envoy says whose one listener uses `web` and `roots`.
fn flush(web: u64, roots: u64, rejected: u64, updates: u64) -> Observation {
    let owner = Owner::new("listener.in");
    let secret = |n, rejected| Secret {
        version: (n > 0).then(|| xxh64(version(n).to_string().as_bytes())),
        rejected,
        users: [owner.clone()].into(),
    };
    Observation {
        secrets: [("web".into(), secret(web, rejected)), ("roots".into(), secret(roots, 0))].into(),
        updates: [(owner, updates)].into(),
    }
}

struct Stream {
    tracker: Tracker,
    told: Vec<Told>,
}

impl Stream {
    fn new(life: Life) -> Self {
        Self { tracker: Tracker::new(life), told: Vec::new() }
    }

    fn sent(&mut self, name: &str, n: u64) {
        let sent = version(n);
        if let Some(told) = self.told.iter_mut().find(|told| &*told.name == name) {
            (told.sent, told.sends, told.answer) = (sent, told.sends + 1, None);
            return;
        }
        // A stream for each name, as Envoy has them without ADS.
        let stream = name.len() as u64;
        let (sent_at, name) = (Timestamp::default(), name.into());
        let told = Told {
            stream,
            connection: 1,
            has_past: false,
            name,
            sends: 1,
            acks: 0,
            nacks: 0,
            sent,
            sent_at,
            is_claim: false,
            answer: None,
            acked: None,
        };
        self.told.push(told);
        self.told.sort_by(|a, b| a.name.cmp(&b.name));
    }

    fn answered(&mut self, name: &str, answer: Result<(), Reason>) {
        let told = self.told.iter_mut().find(|told| &*told.name == name).unwrap();
        match answer {
            Ok(()) => (told.acks, told.acked) = (told.acks + 1, Some(told.sent)),
            Err(_) => told.nacks += 1,
        }
        told.answer = Some((answer, Timestamp::default()));
    }

    fn push(&mut self, name: &str, n: u64) {
        self.sent(name, n);
        self.answered(name, Ok(()));
    }

    fn flushed(&mut self, now: Observation) {
        self.tracker.flushed(now, &self.told);
    }

    fn verdict(&self, name: &str) -> Option<Verdict> {
        let told = self.told.iter().find(|told| &*told.name == name).unwrap();
        self.tracker.known(name, told.sent).map(|known| known.verdict)
    }
}

fn refusal() -> Result<(), Reason> {
    Err(Reason::scrub(13, "OCSP"))
}

/// One that the server fed from the start, with one context for each name.
fn started() -> Stream {
    let mut stream = Stream::new(Life::Whole);
    stream.push("web", 1);
    stream.push("roots", 1);
    stream.flushed(flush(1, 1, 0, 2));
    stream
}

#[test]
fn what_a_process_got_first_is_proved_by_its_first_flush() {
    let stream = started();
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved));
    assert_eq!(stream.verdict("roots"), Some(Verdict::Proved));
}

#[test]
fn a_flush_that_was_taken_before_the_push_settles_nothing() {
    let mut stream = started();
    stream.sent("web", 2);
    stream.flushed(flush(1, 1, 0, 2));
    assert_eq!(stream.verdict("web"), None, "not answered");
    stream.answered("web", Ok(()));
    stream.flushed(flush(1, 1, 0, 2));
    assert_eq!(stream.verdict("web"), None, "the flush does not show it");
    stream.flushed(flush(2, 1, 0, 3));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved));
}

#[test]
fn several_pushes_between_two_flushes_are_judged_together() {
    let mut stream = started();
    stream.push("web", 2);
    stream.push("web", 3);
    stream.push("roots", 2);
    stream.flushed(flush(3, 2, 0, 5));
    assert_eq!(
        (stream.verdict("web"), stream.verdict("roots")),
        (Some(Verdict::Proved), Some(Verdict::Proved))
    );
    stream.push("web", 4);
    stream.push("roots", 3);
    stream.flushed(flush(4, 3, 0, 6));
    let possibly = Some(Verdict::PossiblyApplied);
    assert_eq!(
        (stream.verdict("web"), stream.verdict("roots")),
        (possibly, possibly),
        "one of the two is missing"
    );
}

#[test]
fn a_refusal_is_told_by_the_counters_too() {
    let mut stream = started();
    stream.sent("web", 2);
    stream.answered("web", refusal());
    stream.flushed(flush(1, 1, 0, 2));
    assert_eq!(stream.verdict("web"), None, "the flush does not show it yet");
    stream.flushed(flush(1, 1, 1, 2));
    assert_eq!(stream.verdict("web"), Some(Verdict::Refused));
    stream.sent("web", 3);
    stream.answered("web", refusal());
    stream.flushed(flush(1, 1, 2, 3));
    assert_eq!(stream.verdict("web"), Some(Verdict::PossiblyApplied), "one context had switched");
}

#[test]
fn a_refusal_over_ads_is_counted_for_each_name_and_is_of_one() {
    let mut stream = Stream::new(Life::Whole);
    stream.push("web", 1);
    stream.push("roots", 1);
    stream.told.iter_mut().for_each(|told| told.stream = 1);
    stream.flushed(flush(1, 1, 0, 2));
    stream.sent("web", 2);
    stream.answered("web", refusal());
    stream.flushed(flush(1, 1, 1, 2));
    assert_eq!(stream.verdict("web"), None, "that is not what Envoy counts there");
    let mut now = flush(1, 1, 1, 2);
    now.secrets.get_mut("roots").unwrap().rejected = 1;
    stream.flushed(now);
    assert_eq!(
        (stream.verdict("web"), stream.verdict("roots")),
        (Some(Verdict::Refused), Some(Verdict::Proved))
    );
}

#[test]
fn after_a_restart_the_second_push_is_the_first_that_is_proved() {
    let mut stream = Stream::new(Life::Unknown);
    stream.push("web", 1);
    stream.flushed(flush(1, 1, 0, 40));
    assert_eq!(stream.verdict("web"), None, "no flush from before");
    stream.push("web", 2);
    stream.flushed(flush(2, 1, 0, 42));
    assert_eq!(
        stream.verdict("web"),
        Some(Verdict::PossiblyApplied),
        "how many contexts there are is not known"
    );
    assert!(stream.tracker.known("web", version(2)).unwrap().could_be_proved);
    stream.push("web", 3);
    stream.flushed(flush(3, 1, 0, 44));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved));
}

#[test]
fn the_same_bytes_asked_for_again_take_no_proof_away() {
    let mut stream = started();
    stream.push("web", 1);
    stream.flushed(flush(1, 1, 0, 2));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved));
    stream.push("roots", 2);
    stream.flushed(flush(1, 2, 0, 3));
    assert_eq!(stream.verdict("roots"), Some(Verdict::Proved));
}

#[test]
fn a_push_that_was_superseded_before_its_answer_counts() {
    let mut stream = started();
    stream.sent("web", 2); // its answer comes when it is no longer the newest, and is not heard
    stream.push("web", 3);
    stream.flushed(flush(3, 1, 0, 4));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved));
    stream.sent("web", 4); // refused unheard
    stream.push("web", 5);
    stream.flushed(flush(5, 1, 1, 5));
    assert_eq!(stream.verdict("web"), None, "the counter of refusals does not come out");
}

#[test]
fn a_claim_and_a_lost_stream_end_what_is_counted() {
    let mut stream = Stream::new(Life::Whole);
    stream.push("web", 1);
    stream.told[0].is_claim = true;
    stream.flushed(flush(1, 0, 0, 1));
    assert_eq!(stream.verdict("web"), None, "it holds something from before");

    let mut stream = started();
    stream.told.iter_mut().for_each(|told| told.stream = 2);
    stream.push("web", 2);
    stream.flushed(flush(2, 1, 0, 3));
    assert_eq!(stream.verdict("web"), None, "what the first stream was sent last is not known");
    stream.push("web", 3);
    stream.flushed(flush(3, 1, 0, 4));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved), "its contexts are still known");
}

/// What the flush of an Envoy says with several listeners and clusters: names with their version and users, and counters.
fn wide(secrets: &[(&str, u64, &[&str])], updates: &[(&str, u64)]) -> Observation {
    let secret = |version: u64, users: &[&str]| Secret {
        version: Some(xxh64(self::version(version).to_string().as_bytes())),
        rejected: 0,
        users: users.iter().map(|owner| Owner::new(owner)).collect(),
    };
    Observation {
        secrets: secrets.iter().map(|(name, n, users)| ((*name).into(), secret(*n, users))).collect(),
        updates: updates.iter().map(|(owner, n)| (Owner::new(owner), *n)).collect(),
    }
}

const THREE: &[&str] = &["listener.a", "listener.b", "cluster.c"];

#[test]
fn several_that_use_the_same_from_the_start_are_proved_together_and_each_of_them_counts() {
    let mut stream = Stream::new(Life::Whole);
    stream.push("web", 1);
    stream.push("roots", 1);
    let at = |web, rises: [u64; 3]| {
        let updates: Vec<_> = THREE.iter().copied().zip(rises).collect();
        wide(&[("web", web, THREE), ("roots", 1, THREE)], &updates)
    };
    stream.flushed(at(1, [2, 2, 2]));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved));
    assert_eq!(stream.verdict("roots"), Some(Verdict::Proved));
    stream.push("web", 2);
    stream.flushed(at(2, [3, 2, 3]));
    assert_eq!(stream.verdict("web"), Some(Verdict::PossiblyApplied), "b has not taken it");
    assert_eq!(stream.verdict("roots"), Some(Verdict::Proved));
    stream.push("web", 3);
    stream.flushed(at(3, [4, 3, 4]));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved), "this one each has");
}

#[test]
fn what_came_while_contexts_waited_for_another_secret_is_counted_with_it() {
    let mut stream = Stream::new(Life::Whole);
    stream.push("web", 1);
    let raised = |by: u64| THREE.iter().map(|owner| (*owner, by)).collect::<Vec<_>>();
    // Each callback raised its counter, and no context is there that could be used.
    stream.flushed(wide(&[("web", 1, &[])], &raised(1)));
    assert_eq!(stream.verdict("web"), Some(Verdict::Acknowledged), "0 of 0 is unknown");
    stream.flushed(wide(&[("web", 1, &[])], &raised(1)));
    stream.push("roots", 1);
    stream.flushed(wide(&[("web", 1, THREE), ("roots", 1, THREE)], &raised(2)));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved));
    assert_eq!(stream.verdict("roots"), Some(Verdict::Proved));
    stream.push("roots", 2);
    stream.flushed(wide(&[("web", 1, THREE), ("roots", 2, THREE)], &raised(3)));
    assert_eq!(stream.verdict("roots"), Some(Verdict::Proved), "one each was learned");
}

/// A listener uses `web` and `roots`; a cluster has `web` and waits for `up`.
fn waiting() -> Stream {
    let mut stream = Stream::new(Life::Whole);
    stream.push("web", 1);
    stream.push("roots", 1);
    stream.flushed(wide(
        &[("web", 1, &["listener.a"]), ("roots", 1, &["listener.a"])],
        &[("listener.a", 2), ("cluster.c", 1)],
    ));
    assert_eq!(stream.verdict("web"), Some(Verdict::Proved), "wherever it is in use");
    stream
}

fn with_up(up: u64, rises: u64) -> Observation {
    let both = &["listener.a", "cluster.c"];
    let secrets: &[(&str, u64, &[&str])] =
        &[("web", 1, both), ("roots", 1, &["listener.a"]), ("up", up, &["cluster.c"])];
    wide(secrets, &[("listener.a", 2), ("cluster.c", rises)])
}

#[test]
fn what_raised_a_waiting_context_before_is_not_counted_for_what_it_waited_for() {
    let mut stream = waiting();
    stream.push("up", 1);
    stream.flushed(with_up(1, 2));
    assert_eq!(stream.verdict("up"), Some(Verdict::PossiblyApplied), "how many there are is told by this");
    assert!(stream.tracker.known("up", version(1)).unwrap().could_be_proved);
    stream.push("up", 2);
    stream.flushed(with_up(2, 3));
    assert_eq!(stream.verdict("up"), Some(Verdict::Proved));
}

#[test]
fn a_counter_that_was_not_kept_tells_nothing_of_the_next_push() {
    let mut stream = waiting();
    let mut many = wide(
        &[("web", 1, &["listener.a"]), ("roots", 1, &["listener.a"])],
        &[("listener.a", 2), ("cluster.c", 1)],
    );
    many.updates.extend((0..WAITING).map(|n| (Owner::new(&format!("cluster.{n}")), 1)));
    stream.flushed(many);
    stream.push("up", 1);
    stream.flushed(with_up(1, 2));
    let known = stream.tracker.known("up", version(1)).unwrap();
    assert_eq!((known.verdict, known.could_be_proved), (Verdict::PossiblyApplied, false));
    stream.push("up", 2);
    stream.flushed(with_up(2, 3));
    assert!(stream.tracker.known("up", version(2)).unwrap().could_be_proved, "from then on it is");
}

#[test]
fn what_is_kept_of_a_flush_is_what_the_process_was_sent_and_some_counters() {
    let mut stream = started();
    let mut wide = flush(1, 1, 0, 2);
    for n in 0..20_000 {
        wide.secrets.insert(format!("other{n}").into(), Secret::default());
        wide.updates.insert(Owner::new(&format!("listener.{n}")), 1);
        wide.updates.insert(Owner::new(&format!("listener.{n}{}", "x".repeat(4000))), 1);
    }
    stream.flushed(wide);
    assert!(stream.tracker.bytes() < WAITING * 64, "{}", stream.tracker.bytes());
}
