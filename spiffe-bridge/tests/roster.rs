//! The roster outlives restarts, and knows when it may have lost somebody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use spiffe_bridge::attest::ProcessKey;
use spiffe_bridge::clock::{Clock, Hands, Timestamp};
use spiffe_bridge::identity::{ContentHash, Revision, Version};
use spiffe_bridge::roster::{
    Config, Enough, HolderKey, Keeper, Means, NameRow, Presence, Refusal, Report, Roster, Standing, Stays,
    Wanted, Why, open,
};
use spiffe_bridge::store::{self, Store};
use tokio_util::sync::CancellationToken;

const T0: Timestamp = Timestamp::from_unix_seconds(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// A store whose writer runs for as long as the test.
fn store() -> Store {
    let (store, writer) = store::in_memory().unwrap();
    std::thread::spawn(move || writer.run());
    store
}

async fn opened(store: &Store) -> (Roster, Keeper, Hands) {
    let (clock, hands) = Clock::manual(T0);
    let (roster, keeper) = open(Config::default(), store.clone(), Some(T0 + HOUR), clock).await.unwrap();
    (roster, keeper, hands)
}

fn own() -> HolderKey {
    HolderKey::Process(ProcessKey::of_pid(std::process::id()).unwrap())
}

fn row(standing: Standing) -> NameRow {
    let version = Version { revision: Revision(7), hash: ContentHash::of(&[b"roots"]) };
    let refusal = Refusal { hash: ContentHash::of(&[b"bad"]), kind: "trust_unreadable".into(), at: T0 };
    let means = Means::Statistics;
    NameRow { version, dress: 2, standing, means, sent_at: T0, at: T0, refusals: vec![refusal] }
}

fn report() -> Report {
    Report {
        holder: own(),
        uid: Some(1),
        identities: vec!["spiffe://example.org/web".into()],
        not_after: Some(T0 + HOUR),
        statistics: true,
        presence: Presence::Connected,
        names: vec![("ROOTCA".into(), row(Standing::ProvedApplied))],
        dropped: vec![],
    }
}

#[tokio::test]
async fn a_member_outlives_a_restart_and_its_proof_does_not() {
    let store = store();
    let (roster, ..) = opened(&store).await;
    roster.report(report());
    assert!(
        roster.missing("ROOTCA", Wanted::LastSent, Enough::Proof).missing.len() == 1,
        "unaccounted, see below"
    );
    roster.close().await.unwrap();

    let (roster, ..) = opened(&store).await;
    let expected = NameRow { means: Means::Answer, ..row(Standing::Acknowledged) };
    assert_eq!(roster.names_of(&own()), [("ROOTCA".into(), expected)]);
    let missing = roster.missing("ROOTCA", Wanted::LastSent, Enough::Proof).missing;
    let whys: Vec<Why> = missing.iter().map(|missing| missing.why).collect();
    assert_eq!(whys, [Why::NotProved, Why::Unaccounted]);
}

#[tokio::test]
async fn a_crash_leaves_somebody_unaccounted_for_until_the_last_certificate_has_ended() {
    let store = store();
    let clock = Clock::manual(T0).0;
    let at = |issued_until| open(Config::default(), store.clone(), issued_until, clock.clone());
    let (roster, _) = at(None).await.unwrap();
    assert_eq!(roster.status().unaccounted_until, None, "nothing was ever signed");
    roster.close().await.unwrap();
    let (roster, _) = at(Some(T0 + HOUR)).await.unwrap();
    assert_eq!(roster.status().unaccounted_until, None, "it was closed");
    drop(roster); // as in a crash
    let (roster, keeper) = at(Some(T0 + HOUR)).await.unwrap();
    assert_eq!(roster.status().unaccounted_until, Some(T0 + HOUR));
    drop((roster, keeper));
    let (late, hands) = Clock::manual(T0);
    let (roster, keeper) = open(Config::default(), store, Some(T0 + HOUR), late).await.unwrap();
    let drain = CancellationToken::new();
    let running = tokio::spawn(keeper.run(drain.clone()));
    while roster.status().unaccounted_until.is_some() {
        hands.advance(Duration::from_secs(60));
        tokio::task::yield_now().await;
    }
    drain.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn only_who_can_use_nothing_any_more_is_let_go_at_an_operators_word() {
    let store = store();
    let (roster, ..) = opened(&store).await;
    let remote = HolderKey::Remote("CN=edge".into());
    let at_the_edge = |presence| Report { holder: remote.clone(), uid: None, presence, ..report() };
    assert_eq!(roster.leave(&remote), Err(Stays::Unknown));
    roster.report(at_the_edge(Presence::Connected));
    assert_eq!(roster.leave(&remote), Err(Stays::Connected));
    roster.report(at_the_edge(Presence::Away));
    assert_eq!(roster.leave(&remote), Ok(()));
    assert!(!roster.knows(&remote));
    roster.report(Report { presence: Presence::Away, ..report() });
    assert_eq!(roster.leave(&own()), Err(Stays::Alive), "cut off, this process still has its key");
    roster.close().await.unwrap();
    let (roster, ..) = opened(&store).await;
    assert!(!roster.knows(&remote) && roster.knows(&own()), "over a restart too");
}

#[tokio::test]
async fn the_keeper_writes_what_changed_and_lets_the_dead_go() {
    let store = store();
    let (roster, keeper, hands) = opened(&store).await;
    let drain = CancellationToken::new();
    let running = tokio::spawn(keeper.run(drain.clone()));
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let key = HolderKey::Process(ProcessKey::of_pid(child.id()).unwrap());
    roster.report(report());
    roster.report(Report { holder: key.clone(), presence: Presence::Away, ..report() });
    let written = || store.list(b"roster/name/").unwrap().len();
    while written() < 2 {
        hands.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert!(roster.knows(&key), "away and alive");
    child.kill().unwrap();
    child.wait().unwrap();
    while roster.knows(&key) || written() > 1 {
        hands.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert!(roster.knows(&own()));
    drain.cancel();
    running.await.unwrap().unwrap();
}
