//! The node through its public door: a real process attaches, and sees its identities come and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use spiffe_bridge::attest::{Attestor, Process};
use spiffe_bridge::authority::{self, Authority};
use spiffe_bridge::clock::{Clock, Hands, Timestamp};
use spiffe_bridge::identity::{Revision, SpiffeId, WorkloadUpdate, X509Svid, parse_trust_domain};
use spiffe_bridge::keys::{DiskKeys, KeyManager, KeyType, PublicKey};
use spiffe_bridge::node::{
    self, Caller, CallerTask, EndReason, Follower, Node, SealingKey, Session, SessionState, TOKEN_BURST,
    TOKENS_PER_SECOND, TokenRefused, TokenSpec, Want,
};
use spiffe_bridge::registration::document::Content;
use spiffe_bridge::registration::{Entry, EntryIndex, document};
use spiffe_bridge::roster::HolderKey;
use spiffe_bridge::x509::inspect;
use spiffe_bridge::{attest, audit, store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

const DOMAIN: &str = "example.org";
const PATIENCE: Duration = Duration::from_secs(20);

/// A node and its authority over one data directory, as `serve` composes them.
struct Bench {
    node: Node,
    index: watch::Sender<Arc<EntryIndex>>,
    authority: Authority,
    issuer: CancellationToken,
    issuing: Option<JoinHandle<()>>,
    clock: Clock,
    _stop: DropGuard,
}

async fn start(data: &Path, clock: &Clock, entries: &str) -> Bench {
    let (store, writer) = store::open(&data.join("store.redb")).unwrap();
    std::thread::spawn(move || writer.run());
    let keys: Arc<dyn KeyManager> = Arc::new(DiskKeys::open(data.join("keys")).unwrap());
    let config = authority::Config::new(parse_trust_domain(DOMAIN).unwrap());
    match authority::init(&config, keys.clone(), &store, clock).await {
        Ok(()) | Err(authority::InitError::AlreadyInitialised) => {}
        Err(error) => panic!("{error}"),
    }
    let log = audit::Log::open(store.clone(), clock.clone()).unwrap();
    authority::complete(&config, keys.clone(), &store, &log).await.unwrap();
    let (authority, issuer) = authority::open(config, keys, store.clone(), log, clock.clone()).unwrap();
    let (index, entries) = watch::channel(index_of(1, entries));
    let seal = SealingKey::load_or_create(&data.join("keys/seal")).unwrap();
    let (node, engine) =
        node::open(node::Config::default(), authority.clone(), entries, store, seal, clock.clone());
    let stop = CancellationToken::new();
    let issuing = stop.child_token();
    let running = issuer.run(issuing.clone());
    let task = tokio::spawn(async move { running.await.unwrap() });
    tokio::spawn(engine.run(stop.clone()));
    Bench {
        node,
        index,
        authority,
        issuer: issuing,
        issuing: Some(task),
        clock: clock.clone(),
        _stop: stop.drop_guard(),
    }
}

fn index_of(revision: u64, entries: &str) -> Arc<EntryIndex> {
    let domain = parse_trust_domain(DOMAIN).unwrap();
    let parsed = document::parse(entries, &"test.yaml".into(), &domain).unwrap();
    let entries: Vec<Arc<Entry>> = parsed.iter().filter_map(|document| document.entry().cloned()).collect();
    let profiles = parsed.iter().filter_map(|document| match &document.content {
        Content::Profile(profile) => Some(profile.clone()),
        _ => None,
    });
    Arc::new(EntryIndex::new(Revision(revision), entries).with_profiles(profiles))
}

fn entry(name: &str) -> String {
    let uid = rustix_uid();
    format!("---\nkind: Workload\nspiffe_id: spiffe://{DOMAIN}/{name}\nselectors: [unix:uid:{uid}]\n")
}

fn rustix_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A process of ours that waits until it is killed.
struct Waiter(Child);

impl Waiter {
    fn start() -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "echo ready; read line; exec sleep 600"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Before it speaks its exec may still be under way; a process that connects has it behind it.
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        Self(child)
    }

    fn process(&self) -> Process {
        let (uid, gid) = (rustix_uid(), rustix::process::getegid().as_raw());
        Process::from_peer(self.0.id(), uid, gid, None).unwrap()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    /// The authority signs nothing more: not what was cancelled a moment ago, what has ended.
    async fn stop_issuing(&mut self) {
        self.issuer.cancel();
        self.issuing.take().unwrap().await.unwrap();
    }

    fn attach(&self, waiter: &Waiter) -> Attached {
        let process = waiter.process();
        let caller = Caller::local(1, process.pid, process.uid, process.gid);
        let (sessions, session) = Session::channel(caller);
        let (attestor, _) = Attestor::new(attest::Config::default());
        let task = CallerTask::new(process, Arc::new(attestor), self.node.clone(), sessions);
        tokio::spawn(task.run());
        Attached { state: session.follow(), session }
    }
}

struct Attached {
    state: Follower,
    session: Session,
}

impl Attached {
    async fn until(&mut self, mut wanted: impl FnMut(&WorkloadUpdate) -> bool) -> Arc<WorkloadUpdate> {
        let state =
            self.state.wait_for(|state| matches!(state, SessionState::Serving(update) if wanted(update)));
        match tokio::time::timeout(PATIENCE, state).await.expect("in time") {
            SessionState::Serving(update) => update,
            other => panic!("{other:?}"),
        }
    }

    async fn ended(&mut self) -> EndReason {
        let state = self.state.wait_for(|state| matches!(state, SessionState::Ended(_)));
        match tokio::time::timeout(PATIENCE, state).await.expect("in time") {
            SessionState::Ended(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn ids(update: &WorkloadUpdate) -> Vec<String> {
    update.identities.iter().map(|identity| identity.svid.spiffe_id.to_string()).collect()
}

fn now() -> Timestamp {
    Clock::system().now()
}

async fn wind(hands: &Hands, by: Duration) {
    hands.advance(by);
    tokio::task::yield_now().await;
}

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

/// Waits until the last handle of the store is dropped.
async fn released(path: &Path) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while let Err(error) = store::open(path).map(drop) {
        assert!(std::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
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

fn of_profile(name: &str, terms: &str) -> String {
    let entry = entry(name) + "profile: p\n";
    format!("---\nkind: Profile\nname: p\n{terms}{entry}")
}

fn key_type_of(svid: &X509Svid) -> KeyType {
    let leaf = inspect::parse(&svid.chain[0]).unwrap();
    PublicKey::from_spki(leaf.public_key().raw).unwrap().key_type()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_has_the_key_and_the_lifetime_of_its_profile() {
    for key_type in KeyType::ALL {
        let dir = tempfile::tempdir().unwrap();
        let terms = format!("key_type: {key_type}\nlifetime: 90s\n");
        let bench = start(dir.path(), &Clock::system(), &of_profile("web", &terms)).await;
        let waiter = Waiter::start();
        let svid = bench.attach(&waiter).until(|u| !u.identities.is_empty()).await.identities[0].svid.clone();
        assert_eq!(key_type_of(&svid), key_type);
        assert!(svid.not_after.since(now()) <= Duration::from_secs(90), "{key_type}");
        assert_eq!(bench.node.identities().await.unwrap()[0].key_type, key_type);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_changes_keeps_the_svid_until_its_successor_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), &Clock::system(), &of_profile("web", "key_type: ec-p256\n")).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    let first = attached.until(|u| !u.identities.is_empty()).await.identities[0].svid.clone();
    // Another profile of the same terms is no reason to issue anything.
    bench.index.send_replace(index_of(2, &entry("web")));
    bench.node.identities().await.unwrap();
    // An RSA key takes a while to make: at no moment meanwhile is there no SVID, or two.
    bench.index.send_replace(index_of(3, &of_profile("web", "key_type: rsa-2048\n")));
    let mut shown = Vec::new();
    let rsa = |update: &WorkloadUpdate| {
        shown.push(update.identities.len());
        update.identities[0].svid.version != first.version
    };
    let second = attached.until(rsa).await.identities[0].svid.clone();
    assert!(shown.iter().all(|identities| *identities == 1), "{shown:?}");
    assert_eq!((key_type_of(&first), key_type_of(&second)), (KeyType::EcP256, KeyType::Rsa2048));
    assert_eq!(bench.authority.status().issued, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_svid_of_a_profile_too() {
    let dir = tempfile::tempdir().unwrap();
    let entries = of_profile("web", "key_type: ml-dsa-65\nlifetime: 2h\n");
    let waiter = Waiter::start();
    let mut versions = Vec::new();
    for _ in 0..2 {
        let bench = start(dir.path(), &Clock::system(), &entries).await;
        let update = bench.attach(&waiter).until(|u| !u.identities.is_empty()).await;
        versions.push(update.identities[0].svid.version);
        drop(bench);
        released(&dir.path().join("store.redb")).await;
    }
    assert_eq!(versions[0], versions[1]);
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

fn id(name: &str) -> SpiffeId {
    format!("spiffe://{DOMAIN}/{name}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tokens_of_an_identity_come_at_a_pace_that_its_callers_share() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(now());
    let bench = start(dir.path(), &clock, &entry("web")).await;
    let ask = async |caller: &str, name: &str, audience: u32| {
        let (caller, audience) = (HolderKey::Remote(caller.into()), vec![audience.to_string()]);
        bench.node.token(Some(caller), id(name), TokenSpec::Jwt { audience }).await.map(drop)
    };
    let all = TOKEN_BURST / 2;
    for audience in 0..all {
        ask("greedy", "web", audience).await.unwrap();
    }
    assert_eq!(ask("greedy", "web", all).await, Err(TokenRefused::TooFast));
    ask("greedy", "web", all - 1).await.expect("what is there already");
    ask("greedy", "api", 0).await.expect("another identity");
    for audience in 0..TOKEN_BURST / 4 {
        ask("twin", "web", all + audience).await.expect("another caller of the same identity");
    }
    hands.advance(Duration::from_secs(8));
    for audience in 0..TOKENS_PER_SECOND {
        ask("greedy", "web", TOKEN_BURST + audience).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_pace_refused_comes_when_the_pace_allows_it_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(now());
    let bench = start(dir.path(), &clock, &entry("web")).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    attached.until(|u| !u.identities.is_empty()).await;
    let caller = attached.session.holder().cloned();
    let ask = async |audience: u32| {
        let audience = vec![format!("other {audience}")];
        bench.node.token(caller.clone(), id("web"), TokenSpec::Jwt { audience }).await.map(drop)
    };
    for audience in 0..TOKEN_BURST / 2 {
        ask(audience).await.unwrap();
    }
    assert_eq!(ask(TOKEN_BURST).await, Err(TokenRefused::TooFast));
    let mut interest = attached.session.interest();
    interest.set(["reports", "billing"].map(|audience| Want::Jwt(audience.into())).into());
    let early = tokio::time::timeout(Duration::from_secs(2), attached.until(|u| !u.jwt_svids.is_empty()));
    assert!(early.await.is_err(), "the clock stands, and the share is used up");
    hands.advance(Duration::from_secs(1));
    attached.until(|u| u.jwt_svids.len() == 2).await;
}
