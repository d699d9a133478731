//! The node through its public door: a real process attaches, and sees its identities come and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::X509Svid;
use spiffe_bridge::node::EndReason;

mod bench;
mod profiles;
mod tokens;

use bench::{DOMAIN, PATIENCE, Waiter, entry, ids, index_of, now, released, rustix_uid, start, wind};

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_the_same_identity_share_one_svid() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), &Clock::system(), &entry("web")).await;
    let (a, b) = (Waiter::start(), Waiter::start());
    let (mut first, mut second) = (bench.attach(&a), bench.attach(&b));
    let (first, second) =
        (first.until(|u| !u.identities.is_empty()).await, second.until(|u| !u.identities.is_empty()).await);
    assert!(Arc::ptr_eq(&first.identities[0].svid, &second.identities[0].svid));
    assert!(first.bundle.is_some());
    assert_eq!(bench.authority.status().issued, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_entries_of_one_identity_share_one_svid_and_one_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(now());
    let by_path = |program: &str, hint: &str| {
        let path = std::fs::canonicalize(program).unwrap();
        format!(
            "---\nkind: Workload\nspiffe_id: spiffe://{DOMAIN}/web\nselectors: [unix:path:{}]\nhint: {hint}\n",
            path.display()
        )
    };
    // One for each of two programs: neither entry matches both.
    let entries = by_path("/bin/sh", "first") + &by_path("/bin/bash", "second");
    let bench = start(dir.path(), &clock, &entries).await;
    let waiters = [Waiter::start(), Waiter::running("/bin/bash")];
    let mut callers = waiters.each_ref().map(|waiter| bench.attach(waiter));
    let mut held: Vec<Vec<_>> = Vec::new();
    for issued in 1..=3 {
        let mut round = Vec::new();
        for (caller, hint) in callers.iter_mut().zip(["first", "second"]) {
            let before = held.last().cloned().unwrap_or_default();
            let is_new = |svid: &Arc<X509Svid>| before.iter().all(|before| !Arc::ptr_eq(before, svid));
            let update = caller.until(|u| u.identities.iter().any(|one| is_new(&one.svid))).await;
            assert_eq!(
                (ids(&update), update.identities[0].hint.as_deref()),
                (vec![format!("spiffe://{DOMAIN}/web")], Some(hint))
            );
            round.push(update.identities[0].svid.clone());
        }
        assert!(Arc::ptr_eq(&round[0], &round[1]));
        held.push(round);
        let slots = bench.node.identities().await.unwrap();
        assert_eq!((slots.len(), bench.authority.status().issued), (1, issued));
        let wait = slots[0].next_renewal.unwrap().since(bench.clock.now());
        wind(&hands, wait + Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_an_entry_is_entitled_to_nothing_until_one_comes() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), &Clock::system(), "").await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    let nothing = attached.until(|u| u.identities.is_empty()).await;
    assert!(nothing.bundle.is_none());
    bench.index.send_replace(index_of(2, &entry("web")));
    let update = attached.until(|u| !u.identities.is_empty()).await;
    assert_eq!(ids(&update), ["spiffe://example.org/web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_serves_the_same_version() {
    let dir = tempfile::tempdir().unwrap();
    let waiter = Waiter::start();
    let mut versions = Vec::new();
    for _ in 0..2 {
        let bench = start(dir.path(), &Clock::system(), &entry("web")).await;
        let update = bench.attach(&waiter).until(|u| !u.identities.is_empty()).await;
        versions.push((update.identities[0].svid.version, update.bundle.as_ref().unwrap().version));
        drop(bench);
        released(&dir.path().join("store.redb")).await;
    }
    assert_eq!(versions[0], versions[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_entry_takes_its_identity_away_and_ends_its_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let both = entry("api") + &entry("web");
    let bench = start(dir.path(), &Clock::system(), &both).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    assert_eq!(attached.until(|u| u.identities.len() == 2).await.identities.len(), 2);
    bench.index.send_replace(index_of(2, &entry("web")));
    let update = attached.until(|u| u.identities.len() == 1).await;
    assert_eq!(ids(&update), ["spiffe://example.org/web"]);
    let held = bench.node.identities().await.unwrap();
    assert_eq!(held.iter().map(|i| &*i.spiffe_id).collect::<Vec<_>>(), ["spiffe://example.org/web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_svid_is_renewed_about_its_half_life() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(now());
    let bench = start(dir.path(), &clock, &entry("web")).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    let first = attached.until(|u| !u.identities.is_empty()).await.identities[0].svid.clone();
    let due = bench.node.identities().await.unwrap()[0].next_renewal.unwrap();
    let wait = due.since(bench.clock.now());
    assert!((1440..=2160).contains(&wait.as_secs()), "{wait:?}");
    wind(&hands, wait - Duration::from_secs(1)).await;
    assert_eq!(bench.authority.status().issued, 1);
    wind(&hands, Duration::from_secs(2)).await;
    let second =
        attached.until(|u| u.identities[0].svid.serial != first.serial).await.identities[0].svid.clone();
    assert!(second.not_after > first.not_after);
    assert!(second.version.revision > first.version.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_renewal_leaves_the_svid_until_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(now());
    let mut bench = start(dir.path(), &clock, &entry("web")).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    attached.until(|u| !u.identities.is_empty()).await;
    bench.stop_issuing().await;
    wind(&hands, Duration::from_secs(2200)).await;
    let failing = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(failing) = bench.node.status().failing.first() {
                return failing.clone();
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(failing.await.expect("in time").last_error.is_some());
    assert_eq!(attached.until(|_| true).await.identities.len(), 1, "what is valid stays");
    for _ in 0..200 {
        wind(&hands, Duration::from_secs(30)).await;
        tokio::time::timeout(PATIENCE, bench.node.identities()).await.unwrap().unwrap();
    }
    let update = attached.until(|u| u.identities.is_empty()).await;
    assert!(update.bundle.is_some(), "what is expired goes, the bundle stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_exits_gets_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), &Clock::system(), &entry("web")).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    attached.until(|u| !u.identities.is_empty()).await;
    drop(waiter);
    assert_eq!(attached.ended().await, EndReason::ProcessExited);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_runs_another_program_gets_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), &Clock::system(), &entry("web")).await;
    let mut waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    attached.until(|u| !u.identities.is_empty()).await;
    let exe = format!("/proc/{}/exe", waiter.0.id());
    let shell = std::fs::read_link(&exe).unwrap();
    drop(waiter.0.stdin.take()); // the shell reads its end of file and execs
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::fs::read_link(&exe).is_ok_and(|now| now == shell) {
        assert!(std::time::Instant::now() < deadline, "the shell did not exec");
        tokio::task::yield_now().await;
    }
    // A new stream of the connection is refused at once, the connection with the next batch.
    assert_eq!(attached.session.verify(), Err(EndReason::ProcessExecuted));
    bench.index.send_replace(index_of(2, &(entry("api") + &entry("web"))));
    assert_eq!(attached.ended().await, EndReason::ProcessExecuted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_with_other_dns_names_keeps_the_svid_until_its_successor_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = start(dir.path(), &Clock::system(), &entry("web")).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    let first = attached.until(|u| !u.identities.is_empty()).await.identities[0].svid.clone();
    bench.stop_issuing().await;
    let renamed = entry("web") + "dns_names: [web.example.org]\n";
    bench.index.send_replace(index_of(2, &(renamed + &entry("api"))));
    let failing = tokio::time::timeout(PATIENCE, async {
        while bench.node.status().failing.len() < 2 {
            tokio::task::yield_now().await;
        }
    });
    failing.await.expect("in time");
    bench.node.identities().await.unwrap(); // after what was published
    let update = attached.until(|_| true).await;
    assert_eq!(update.identities.len(), 1, "what is valid stays");
    assert_eq!(update.identities[0].svid.version, first.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ran_another_program_is_not_attested_anew() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), &Clock::system(), &entry("web")).await;
    let mut waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    attached.until(|u| !u.identities.is_empty()).await;
    let exe = format!("/proc/{}/exe", waiter.0.id());
    let shell = std::fs::read_link(&exe).unwrap();
    drop(waiter.0.stdin.take());
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::fs::read_link(&exe).is_ok_and(|now| now == shell) {
        assert!(std::time::Instant::now() < deadline, "the shell did not exec");
        tokio::task::yield_now().await;
    }
    // An entry that asks for more than is known of the process.
    let by_path = format!(
        "---\nkind: Workload\nspiffe_id: spiffe://{DOMAIN}/sleep\nselectors: [unix:uid:{}, unix:path:{}]\n",
        rustix_uid(),
        std::fs::read_link(&exe).unwrap().display()
    );
    bench.index.send_replace(index_of(2, &(by_path + &entry("web"))));
    assert_eq!(attached.ended().await, EndReason::ProcessExecuted);
}
