//! A server whose secrets a test chooses: SDS, receipts and roster as `serve` composes them, without an authority. So
//! an Envoy can be sent what ours would never issue.

mod stand;

pub use stand::{DOMAIN, Stand};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use sds_server::endpoint::uds::Listener;
use sds_server::endpoint::{Config, Limits, Peer, Server};
use sds_server::receipts::{Desk, Receipts};
use sds_server::runtime::{Drainer, drain};
use sds_server::sds::{Proxies, SdsService, Shared, StreamRegistry};
use spiffe_bridge::attest::ProcessKey;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::WorkloadUpdate;
use spiffe_bridge::node::{Caller, Session, SessionState};
use spiffe_bridge::roster::{self, HolderKey, Roster};
use spiffe_bridge::store::{self, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::scratch::Scratch;

pub struct Puppet {
    socket: PathBuf,
    store: Store,
    secrets: watch::Sender<Arc<WorkloadUpdate>>,
    running: Option<Running>,
}

struct Running {
    drainer: Drainer,
    tasks: Vec<JoinHandle<Result<()>>>,
    desk: Desk,
    roster: Roster,
    streams: StreamRegistry,
}

impl Puppet {
    /// Serves `first` to whoever comes.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub async fn start(scratch: &Scratch, first: WorkloadUpdate) -> Result<Self> {
        let (store, writer) = store::in_memory()?;
        std::thread::spawn(move || writer.run());
        let socket = scratch.dir("puppet", None)?.join("api.sock");
        let mut puppet = Self { socket, store, secrets: watch::Sender::new(Arc::new(first)), running: None };
        puppet.run().await?;
        Ok(puppet)
    }

    async fn run(&mut self) -> Result<()> {
        let clock = Clock::system();
        let (roster, keeper) =
            roster::open(roster::Config::default(), self.store.clone(), None, clock.clone()).await?;
        let streams = StreamRegistry::of(Proxies::remembered_by(roster.clone()));
        let desk = Desk::new(streams.proxies().clone(), roster.clone(), clock.clone());
        let shared = Shared { clock, streams: streams.clone(), ..Shared::default() };
        let service = Receipts::beside(SdsService::new(shared), desk.clone());
        let secrets = self.secrets.clone();
        let admit = move |peer: Peer, connection| admit(&peer, connection, secrets.subscribe());
        let config = Config::default();
        let listener = Listener::bind(&self.socket, 0o666)?;
        let server = Server::new(listener, Limits::new(&config, 1000), config, service, admit);
        let (drainer, drain) = drain::channel();
        let (serving, telling, stop) = (drain.clone(), desk.clone().run(drain.clone()), drain.token());
        let tasks = vec![
            tokio::spawn(async move { Ok(server.run(serving).await?) }),
            tokio::spawn(async move { Ok(telling.await?) }),
            tokio::spawn(async move { Ok(keeper.run(stop).await?) }),
        ];
        self.running = Some(Running { drainer, tasks, desk, roster, streams });
        Ok(())
    }

    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Replaces what is served.
    pub fn serve(&self, update: WorkloadUpdate) {
        self.secrets.send_replace(Arc::new(update));
    }

    /// Who holds what.
    ///
    /// # Panics
    /// Never: it runs from its start to its end.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.running().roster
    }

    #[must_use]
    pub fn streams(&self) -> &StreamRegistry {
        &self.running().streams
    }

    fn running(&self) -> &Running {
        #[expect(clippy::expect_used, reason = "start and restart leave it running")]
        self.running.as_ref().expect("it runs")
    }

    /// Ends it as at a shutdown, and runs it again on what it kept.
    ///
    /// # Errors
    /// The socket cannot be bound again.
    pub async fn restart(&mut self) -> Result<()> {
        let Running { drainer, tasks, desk, roster, streams } = self.running.take().context("it runs")?;
        drainer.begin();
        drainer.force();
        for task in tasks {
            task.await??;
        }
        desk.look();
        roster.close().await?;
        drop((desk, roster, streams));
        self.run().await
    }
}

/// Everybody has an entry here. The process is the kernel's word, as in `serve`.
fn admit(
    peer: &Peer,
    connection: u64,
    mut secrets: watch::Receiver<Arc<WorkloadUpdate>>,
) -> (Session, impl Future<Output = ()> + Send + use<>) {
    let (sessions, session) = Session::channel(Caller::local(connection, peer.pid, peer.uid, peer.gid));
    if let Ok(key) = ProcessKey::of_pid(peer.pid) {
        sessions.held_by(HolderKey::Process(key));
    }
    let work = async move {
        loop {
            let update = secrets.borrow_and_update().clone();
            sessions.publish(SessionState::Serving(update));
            if secrets.changed().await.is_err() {
                return;
            }
        }
    };
    (session, work)
}
