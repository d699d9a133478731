//! The door to the network, put together: its CAs, our certificate on it, and who comes in.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::CertificateDer;
use spiffe_bridge::attest::RemotePeer;
use spiffe_bridge::authority::Authority;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::{TrustDomain, server_id};
use spiffe_bridge::node::{Caller, Node, Origin, RemoteTask, Session};

use crate::endpoint::sockets::Sockets;
use crate::endpoint::tcp::TcpDoor;
use crate::endpoint::tls::authorities::{ClientCa, ClientCaStatus};
use crate::endpoint::tls::certificate::Presenter;
use crate::endpoint::tls::{Config, Handshakes};
use crate::endpoint::{Limits, Patience, SecuredServer};
use crate::receipts::Receipts;
use crate::runtime::{Crowd, Readiness, Reread, Supervisor};
use crate::sds::SdsService;

/// What is known of the door, for an operator.
#[derive(Debug, Clone)]
pub(super) struct RemoteStatus {
    pub(super) address: SocketAddr,
    pub(super) client_ca: ClientCaStatus,
}

/// The open door, before its tasks run.
pub(super) struct Remote {
    door: TcpDoor,
    client_ca: ClientCa,
    status: RemoteStatus,
}

impl Remote {
    /// Opens the door that `config` asks for, if it does: the CAs are read first, so that nobody knocks at a door that
    /// cannot be served.
    pub(super) async fn open(
        config: &Config,
        authority: &Authority,
        handed: &mut Sockets,
    ) -> anyhow::Result<Option<Self>> {
        let Some(address) = config.listen else { return Ok(None) };
        let path = config.client_ca.as_deref().unwrap_or(Path::new(""));
        let client_ca = ClientCa::open(path, authority.bundle(), authority.intermediates().to_vec())?;
        let door = TcpDoor::open(address, handed).await?;
        let status = RemoteStatus { address: door.address()?, client_ca: client_ca.status() };
        Ok(Some(Self { door, client_ca, status }))
    }

    /// Its socket once more, for a successor.
    pub(super) fn share(&self) -> std::io::Result<OwnedFd> {
        self.door.share()
    }

    pub(super) fn status(&self) -> RemoteStatus {
        self.status.clone()
    }
}

/// What the door's tasks need of the others.
pub(super) struct Around<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) config: (crate::endpoint::Config, Config),
    pub(super) node: Node,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) service: Receipts<SdsService>,
    pub(super) readiness: &'a Readiness,
    pub(super) crowd: &'a Crowd,
    pub(super) reread: Reread,
}

impl Remote {
    /// Spawns the tasks of the door. The node's engine must be running: it is asked for our certificate.
    pub(super) async fn spawn(self, around: Around<'_>, tasks: &mut Supervisor) -> anyhow::Result<()> {
        let Self { door, client_ca, .. } = self;
        let Around { trust_domain, config, node, clock, limits, service, readiness, crowd, reread } = around;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let id = server_id(trust_domain).context("the server's own SPIFFE ID")?;
        let own = node.own(id, config.1.dns_names.clone()).await?;
        let (presenter, certificate) = Presenter::new(own, provider.clone(), readiness.guard("remote"));
        let trust = client_ca.trust();
        let handshakes = Handshakes::new(provider, trust.clone(), certificate);
        tasks.spawn("remote client CAs", |drain| client_ca.run(reread, drain));
        tasks.spawn("remote certificate", |drain| presenter.run(drain));
        tasks.spawn("remote endpoint", |drain| {
            let admit = move |address: SocketAddr, chain: &[CertificateDer<'static>], connection| {
                let peer = RemotePeer::new(address, chain)?;
                let origin = Origin::Remote { address: peer.address(), name: peer.name().clone() };
                let (sessions, session) = Session::channel(Caller { connection, origin });
                let task = RemoteTask::new(peer, trust.clone(), node.clone(), sessions, clock.clone());
                Ok((session, task.run()))
            };
            let patience = Patience { handshakes: config.1.handshakes, time: config.1.handshake };
            let server = SecuredServer::new(door, handshakes, limits, config.0, patience, service, admit)
                .with_crowd(crowd);
            async move { server.run(drain).await as Result<(), Infallible> }
        });
        Ok(())
    }
}
