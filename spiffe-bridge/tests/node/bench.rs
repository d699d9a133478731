//! A node over its authority, and processes that attach to it.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use spiffe_bridge::attest::{Attestor, Process};
use spiffe_bridge::authority::{self, Authority};
use spiffe_bridge::clock::{Clock, Hands, Timestamp};
use spiffe_bridge::identity::{Revision, WorkloadUpdate, parse_trust_domain};
use spiffe_bridge::keys::{DiskKeys, KeyManager};
use spiffe_bridge::node::{
    self, Caller, CallerTask, EndReason, Follower, Node, SealingKey, Session, SessionState,
};
use spiffe_bridge::registration::document::Content;
use spiffe_bridge::registration::{Entry, EntryIndex, document};
use spiffe_bridge::{attest, audit, store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) const DOMAIN: &str = "example.org";
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A node and its authority over one data directory, as `serve` composes them.
pub(super) struct Bench {
    pub(super) node: Node,
    pub(super) index: watch::Sender<Arc<EntryIndex>>,
    pub(super) authority: Authority,
    issuer: CancellationToken,
    issuing: Option<JoinHandle<()>>,
    pub(super) clock: Clock,
    _stop: DropGuard,
}

pub(super) async fn start(data: &Path, clock: &Clock, entries: &str) -> Bench {
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

pub(super) fn index_of(revision: u64, entries: &str) -> Arc<EntryIndex> {
    let domain = parse_trust_domain(DOMAIN).unwrap();
    let parsed = document::parse(entries, &"test.yaml".into(), &domain).unwrap();
    let entries: Vec<Arc<Entry>> = parsed.iter().filter_map(|document| document.entry().cloned()).collect();
    let profiles = parsed.iter().filter_map(|document| match &document.content {
        Content::Profile(profile) => Some(profile.clone()),
        _ => None,
    });
    Arc::new(EntryIndex::new(Revision(revision), entries).with_profiles(profiles))
}

pub(super) fn entry(name: &str) -> String {
    let uid = rustix_uid();
    format!("---\nkind: Workload\nspiffe_id: spiffe://{DOMAIN}/{name}\nselectors: [unix:uid:{uid}]\n")
}

pub(super) fn rustix_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A process of ours that waits until it is killed.
pub(super) struct Waiter(pub(super) Child);

impl Waiter {
    pub(super) fn start() -> Self {
        Self::running("sh")
    }

    /// The same in another shell.
    pub(super) fn running(shell: &str) -> Self {
        let mut child = Command::new(shell)
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

    pub(super) fn process(&self) -> Process {
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
    pub(super) async fn stop_issuing(&mut self) {
        self.issuer.cancel();
        self.issuing.take().unwrap().await.unwrap();
    }

    pub(super) fn attach(&self, waiter: &Waiter) -> Attached {
        let process = waiter.process();
        let caller = Caller::local(1, process.pid, process.uid, process.gid);
        let (sessions, session) = Session::channel(caller);
        let (attestor, _) = Attestor::new(attest::Config::default());
        let task = CallerTask::new(process, Arc::new(attestor), self.node.clone(), sessions);
        tokio::spawn(task.run());
        Attached { state: session.follow(), session }
    }
}

pub(super) struct Attached {
    pub(super) state: Follower,
    pub(super) session: Session,
}

impl Attached {
    pub(super) async fn until(
        &mut self,
        mut wanted: impl FnMut(&WorkloadUpdate) -> bool,
    ) -> Arc<WorkloadUpdate> {
        let state =
            self.state.wait_for(|state| matches!(state, SessionState::Serving(update) if wanted(update)));
        match tokio::time::timeout(PATIENCE, state).await.expect("in time") {
            SessionState::Serving(update) => update,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn ended(&mut self) -> EndReason {
        let state = self.state.wait_for(|state| matches!(state, SessionState::Ended(_)));
        match tokio::time::timeout(PATIENCE, state).await.expect("in time") {
            SessionState::Ended(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn ids(update: &WorkloadUpdate) -> Vec<String> {
    update.identities.iter().map(|identity| identity.svid.spiffe_id.to_string()).collect()
}

pub(super) fn now() -> Timestamp {
    Clock::system().now()
}

pub(super) async fn wind(hands: &Hands, by: Duration) {
    hands.advance(by);
    tokio::task::yield_now().await;
}

/// Waits until the last handle of the store is dropped.
pub(super) async fn released(path: &Path) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while let Err(error) = store::open(path).map(drop) {
        assert!(std::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
}
