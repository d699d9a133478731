use std::time::Duration;

use super::*;
use crate::audit;
use crate::authority::{self, Authority};
use crate::clock::{Clock, Hands};
use crate::identity::{Revision, SelectorSet, parse_trust_domain};
use crate::keys::{MemoryKeys, pool};
use crate::node::SealingKey;
use crate::node::renewal::Config;
use crate::registration::{EntryIndex, document};
use crate::store;
use tokio_util::sync::CancellationToken;

const PLACES: usize = 8;
const NEWCOMERS: usize = 40;

/// A state of few places, beside an authority that signs.
struct Bench {
    state: State,
    authority: Authority,
    cache: Cache,
    clock: Clock,
    hands: Hands,
    ready: ReadyKeys,
}

/// One entry for user 1, and many for user 2.
fn entries() -> EntryIndex {
    let entry = |name: &str, uid| {
        format!("---\nkind: Workload\nspiffe_id: spiffe://example.org/{name}\nselectors: [unix:uid:{uid}]\n")
    };
    let text: String = (0..NEWCOMERS).map(|n| entry(&format!("new-{n}"), 2)).collect();
    let domain = parse_trust_domain("example.org").unwrap();
    let parsed = document::parse(&(entry("holder", 1) + &text), &"test.yaml".into(), &domain).unwrap();
    EntryIndex::new(Revision(1), parsed.iter().filter_map(|document| document.entry().cloned()))
}

async fn bench() -> Bench {
    let (store, writer) = store::in_memory().unwrap();
    std::thread::spawn(move || writer.run());
    let (clock, hands) = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
    let config = authority::Config::new(parse_trust_domain("example.org").unwrap());
    let keys = Arc::new(MemoryKeys::new());
    authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
    let log = audit::Log::open(store.clone(), clock.clone()).unwrap();
    let (authority, issuer) = authority::open(config, keys, store.clone(), log, clock.clone()).unwrap();
    tokio::spawn(issuer.run(CancellationToken::new()));
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(store, SealingKey::load_or_create(&dir.path().join("seal")).unwrap());
    let config = Config { in_flight: PLACES, ..Config::default() };
    let bundle = authority.bundle().borrow().clone();
    let state = State::new(config, Arc::new(entries()), bundle, Arc::default());
    let (ready, _) = pool::open(0, clock.clone());
    Bench { state, authority, cache, clock, hands, ready }
}

impl Bench {
    /// Somebody of that user comes.
    fn comes(&mut self, uid: u32) {
        let selectors: SelectorSet = [format!("unix:uid:{uid}").parse().unwrap()].into();
        drop(self.state.view(Arc::new(selectors), &self.cache, self.clock.now()));
    }

    fn next(&mut self, room: usize) -> Vec<Issue> {
        self.state.take_issues(self.clock.now(), room, &self.ready)
    }

    async fn done(&mut self, issues: Vec<Issue>) {
        for issue in issues {
            let answer = issue.run(self.authority.clone(), self.clock.clone()).await;
            assert!(answer.result.is_ok(), "{answer:?}");
            self.state.answered(Ok(answer), self.clock.now());
        }
    }
}

fn names(issues: &[Issue]) -> Vec<&str> {
    issues.iter().map(|issue| issue.spiffe_id.path()).collect()
}

/// Newcomers have so many of the places at most.
const THEIRS: usize = PLACES / 4 * 3;

/// A holder whose SVID is due to be renewed a second after this.
async fn with_a_holder() -> Bench {
    let mut bench = bench().await;
    bench.comes(1);
    let first = bench.next(PLACES);
    assert_eq!(names(&first), ["/holder"]);
    bench.done(first).await;
    let due = bench.state.next_due().unwrap().since(bench.clock.now());
    bench.hands.advance(due - Duration::from_secs(1));
    bench
}

#[tokio::test]
async fn a_renewal_finds_a_place_and_goes_before_newcomers_who_came_earlier() {
    let mut bench = with_a_holder().await;
    bench.comes(2);
    let crowd = bench.next(PLACES);
    assert_eq!(crowd.len(), THEIRS, "a quarter of the places is left");
    bench.hands.advance(Duration::from_secs(1));
    assert_eq!(names(&bench.next(PLACES - crowd.len())), ["/holder"]);
    // And newcomers go on when they have places again.
    bench.done(crowd).await;
    assert_eq!(bench.next(PLACES).len(), THEIRS);
}

#[tokio::test]
async fn who_stands_still_goes_first() {
    let mut bench = with_a_holder().await;
    bench.hands.advance(Duration::from_hours(2));
    bench.comes(2);
    let issues = bench.next(PLACES);
    assert_eq!((issues[0].spiffe_id.path(), issues.len()), ("/holder", 1 + THEIRS));
}
