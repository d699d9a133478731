//! What an earlier version kept, record by record: a whole store as the server of 1 December 2026 (345d2a1) left it, after a
//! real Envoy and a Workload API client had been served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use spiffe_bridge::audit::{Event, Log};
use spiffe_bridge::authority;
use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::identity::Selector;
use spiffe_bridge::registration::Indexer;
use spiffe_bridge::roster::{self, Enough, Wanted};
use spiffe_bridge::store::{self, Store};
use tempfile::TempDir;

const STORE: &[u8] = include_bytes!("data/records-1.redb");
/// Half an hour after it was left.
const SOON: Timestamp = Timestamp::from_unix_seconds(1_796_094_000);

fn left_behind() -> (TempDir, Store, Clock) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    std::fs::write(&path, STORE).unwrap();
    let (store, writer) = store::open(&path).unwrap();
    std::thread::spawn(move || writer.run());
    (dir, store, Clock::manual(SOON).0)
}

#[tokio::test]
async fn entries_profiles_and_bundles_are_those_that_were_accepted() {
    let (_dir, store, _) = left_behind();
    let (_, index) = Indexer::load(store).unwrap();
    let index = index.borrow();
    let found: Vec<_> = index.entries().map(|entry| entry.spiffe_id.to_string()).collect();
    assert_eq!(found, ["spiffe://example.org/api", "spiffe://example.org/web"]);
    let (api, web) = (index.entries().next().unwrap(), index.entries().nth(1).unwrap());
    assert_eq!(index.terms(api).key_type.to_string(), "rsa-2048");
    assert!(web.selectors.contains(&"unix:uid:0".parse::<Selector>().unwrap()));
    assert_eq!(web.dns_names, ["web.example.org"]);
    assert_eq!((web.hint.as_deref(), web.peers.len()), (Some("internal"), 2));
    let partner = &index.federated()[0];
    assert_eq!((partner.trust_domain.as_str(), partner.roots.len()), ("partner.test", 1));
}

#[tokio::test]
async fn the_audit_log_is_read_and_goes_on() {
    let (_dir, store, clock) = left_behind();
    let log = Log::open(store, clock).unwrap();
    let records = log.read(0, 1000).unwrap();
    for kind in ["authority.root_created", "registration.changed", "svid.issued", "token.issued"] {
        assert!(records.iter().any(|record| record.event.kind == kind), "{kind}: {records:#?}");
    }
    let last = records.last().unwrap().sequence;
    log.append(vec![Event::new("test.event", "here", serde_json::json!({}))]).await.unwrap();
    assert_eq!(log.read(last + 1, 10).unwrap()[0].sequence, last + 1);
}

#[tokio::test]
async fn the_roster_knows_who_held_what() {
    let (_dir, store, clock) = left_behind();
    let until = authority::issued_until(&store).unwrap().unwrap();
    assert!(until > SOON, "what was reserved to be signed lives on");
    assert_eq!(authority::trust_domain_of(&store).unwrap().as_deref(), Some("example.org"));
    let (roster, _) = roster::open(roster::Config::default(), store, Some(until), clock).await.unwrap();
    let answer = roster.missing("ROOTCA", Wanted::LastSent, Enough::Acknowledgement);
    assert_eq!(answer.members, 1, "{answer:?}");
    assert!(roster.has_all(), "it was closed");
}
