//! What operators ask the running server: JSON over `DATA/admin.sock`, and metrics on loopback.
//!
//! ```text
//! GET  /v1/status /v1/streams /v1/entries /v1/bundle        POST /v1/entries/rescan {"prune": false}
//! GET  /v1/explain/pid/N                                    POST /v1/holders/missing {"name": "ROOTCA"}
//!                                                           POST /v1/holders/forget {"holder": "remote:…"}
//!                                                           POST /v1/audit {"limit": 50}
//! GET  /metrics /healthz /readyz                            (these three on metrics.listen too)
//! ```
//!
//! The socket has mode 0600, and the kernel is asked besides: only root and our own user are answered. Every
//! connection carries one request, is bounded in size and time, and there are at most 32. Nothing here
//! knows the server: it answers from [`Sources`], which the composition root fills.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

mod http;
mod model;
mod routes;
mod sources;

pub use model::{
    Attested, AttestorState, Bundle, Entries, Explained, Finding, Forget, Forgotten, Holders, Matching, Near,
    NotHolding, Records, Rescan, Rescanned, State, Status, Trail, WhyNot,
};
pub use sources::Sources;

use crate::endpoint::Peer;
use crate::endpoint::uds::{BindError, Listener};
use crate::runtime::Drain;

/// Why the admin API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The admin socket cannot be bound.
    #[error("cannot bind the admin socket")]
    Socket(#[from] BindError),
    /// The address for metrics cannot be bound.
    #[error("cannot listen on metrics.listen, {address}: give another address, or stop who listens there")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Serves the whole API on the admin socket.
#[derive(Debug)]
pub struct AdminServer {
    listener: Listener,
    router: axum::Router,
}

/// Serves metrics, liveness and readiness on loopback.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
    router: axum::Router,
}

impl AdminServer {
    /// Binds `path` for ourselves alone.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn bind(path: &Path, sources: &Sources) -> Result<Self, Error> {
        let listener = Listener::bind(path, 0o600)?;
        Ok(Self { listener, router: routes::admin(sources.clone()) })
    }

    /// Runs until the drain; requests in work are finished.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self, drain: Drain) -> Result<(), std::convert::Infallible> {
        http::run(self.listener, self.router, drain).await;
        Ok(())
    }
}

impl MetricsServer {
    /// Binds `address`, which the configuration has found to be a loopback address.
    ///
    /// # Errors
    /// [`Error::Metrics`].
    pub async fn bind(address: SocketAddr, sources: &Sources) -> Result<Self, Error> {
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Metrics { address, source })?;
        Ok(Self { listener, router: routes::probes(sources.clone()) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs until the drain.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self, drain: Drain) -> Result<(), std::convert::Infallible> {
        http::run(self.listener, self.router, drain).await;
        Ok(())
    }
}

impl http::Door for Listener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        let stream = Self::accept(self).await?;
        let us = rustix::process::geteuid().as_raw();
        // The mode of the socket says the same, but root may have changed that by mistake.
        match Peer::of(&stream)?.uid {
            uid if uid == 0 || uid == us => Ok(stream),
            uid => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid}"))),
        }
    }
}

impl http::Door for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}
