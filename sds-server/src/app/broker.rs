//! The socket for brokers, put together: who comes in, and what it asks for workloads.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::CertificateDer;
use spiffe_bridge::attest::{BrokerPeer, Process};
use spiffe_bridge::identity::{TrustBundle, TrustDomain, server_id};
use spiffe_bridge::node::{BrokerTask, Caller, Origin, Pids, Session};
use spiffe_bridge::registration::EntryIndex;
use tokio::sync::watch;

use crate::broker_api::{BrokerApi, Config, SERVICES, Workloads};
use crate::endpoint::peer::Credentials;
use crate::endpoint::sockets::Sockets;
use crate::endpoint::tls::Handshakes;
use crate::endpoint::tls::certificate::Presenter;
use crate::endpoint::uds::{Listener, Others};
use crate::endpoint::{Patience, SecuredServer};
use crate::runtime::{BoxError, Crowd, Readiness, Supervisor};
use crate::workload_api::{Neighbours, Shared};

/// A node has few brokers, which stay connected.
const HANDSHAKES: Patience = Patience { handshakes: 64, time: Duration::from_secs(5) };

/// The open socket, before its tasks run.
pub(super) struct Brokers {
    listener: Listener,
    config: Config,
}

/// What is known of the socket, for an operator.
#[derive(Debug, Clone)]
pub(super) struct BrokerStatus {
    pub(super) socket: PathBuf,
    pub(super) allowed: usize,
}

/// What its tasks need of the others.
pub(super) struct Around<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) limits: crate::endpoint::Config,
    pub(super) bundle: watch::Receiver<Arc<TrustBundle>>,
    pub(super) entries: watch::Receiver<Arc<EntryIndex>>,
    pub(super) shared: Shared,
    pub(super) workloads: Workloads,
    pub(super) readiness: &'a Readiness,
    pub(super) crowd: &'a Crowd,
}

impl Brokers {
    /// Opens the socket that `config` asks for, if it does.
    pub(super) fn open(config: &Config, handed: &mut Sockets) -> anyhow::Result<Option<Self>> {
        let Some(socket) = &config.socket else { return Ok(None) };
        // BE-01: for designated clients. Who they are is then their certificates' to say.
        let listener = Listener::open(socket, 0o660, handed)?;
        if let Some(group) = config.group {
            std::os::unix::fs::chown(listener.path(), None, Some(group)).with_context(|| {
                format!("cannot give {socket:?} to group {group} (broker.group): be a member of it")
            })?;
        }
        Ok(Some(Self { listener, config: config.clone() }))
    }

    /// Its socket once more, for a successor.
    pub(super) fn share(&self) -> std::io::Result<OwnedFd> {
        self.listener.share()
    }

    /// Whose the socket's file is.
    pub(super) fn others(&self) -> Others {
        self.listener.others()
    }

    pub(super) fn status(&self) -> BrokerStatus {
        BrokerStatus { socket: self.listener.path().to_owned(), allowed: self.config.allow.len() }
    }

    /// Spawns the tasks of the socket. The node's engine must be running: it is asked for our certificate.
    pub(super) async fn spawn(self, around: Around<'_>, tasks: &mut Supervisor) -> anyhow::Result<()> {
        let Self { listener, config } = self;
        let Around { trust_domain, limits, bundle, entries, shared, workloads, readiness, crowd } = around;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let id = server_id(trust_domain).context("the server's own SPIFFE ID")?;
        let own = workloads.node.own(id, config.dns_names.clone()).await?;
        let (presenter, certificate) = Presenter::new(own, provider.clone(), readiness.guard("brokers"));
        let handshakes = Handshakes::new(provider, bundle.clone(), certificate);
        let (neighbours, health) = Neighbours::new(SERVICES).await?;
        let (waiting, clock, counted) = (readiness.clone(), shared.clock.clone(), workloads.limits.clone());
        let api = BrokerApi::new(&config, shared, workloads, neighbours);
        tasks.spawn("broker certificate", |drain| presenter.run(drain));
        tasks.spawn("broker health", |drain| health.run(waiting, drain));
        tasks.spawn("broker endpoint", |drain| {
            let admit = move |from: Credentials, chain: &[CertificateDer<'static>], connection| {
                let newest = bundle.borrow().clone();
                let peer = BrokerPeer::new(chain, &newest, clock.now())?;
                let origin = origin(from, &peer)?;
                let (sessions, session) = Session::channel(Caller { connection, origin });
                let task = BrokerTask::new(peer, bundle.clone(), entries.clone(), sessions, clock.clone());
                Ok((session, task.run()))
            };
            let server = SecuredServer::new(listener, handshakes, counted, limits, HANDSHAKES, api, admit)
                .with_crowd(crowd);
            async move { server.run(drain).await as Result<(), Infallible> }
        });
        Ok(())
    }
}

fn origin(from: Credentials, peer: &BrokerPeer) -> Result<Origin, BoxError> {
    let Credentials { pid, uid, .. } = from;
    // A process without a pid here has those of another namespace.
    let pids = match pid {
        0 => Pids::Others,
        pid if Process::shares_pids(pid)? => Pids::Ours,
        _ => Pids::Others,
    };
    Ok(Origin::Broker { pid, uid, id: peer.id().to_string().into(), pids })
}
