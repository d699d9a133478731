//! The accept loop: a permit, a session and an HTTP/2 connection for each caller.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use spiffe_bridge::node::Session;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tower::Service;
use tracing::Instrument as _;

mod connection;
mod cork;
mod exchange;
mod exchanges;
mod http2;
mod keepalive;

use super::limits::{Config, Limits, Refused};
use super::metrics::{self, Open};
use super::peer::{Peer, Processes};
use super::uds::Listener;
use crate::runtime::{BoxError, Drain, Seldom};
use connection::Connection;
use http2::Settings;

/// Accepts callers and serves them until the drain.
#[derive(Debug)]
pub struct Server<S, A> {
    listener: Listener,
    limits: Limits,
    config: Config,
    service: S,
    admit: A,
}

impl<S, A, F, B> Server<S, A>
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Buf + Send> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    A: Fn(Peer, u64) -> (Session, F) + Send,
    F: Future<Output = ()> + Send + 'static,
{
    /// Serves `service` on `listener`. `admit` is called with each peer and the number of its connection
    /// (from 1); it must not block, and gives the connection's session, which every request carries in its
    /// extensions, and the work that keeps the session true, which runs until it ends or the connection does.
    pub fn new(listener: Listener, limits: Limits, config: Config, service: S, admit: A) -> Self {
        Self { listener, limits, config, service, admit }
    }

    /// Runs until the drain: then the socket goes, connections get a GOAWAY and finish their streams, and
    /// those that are left when the drain is forced are dropped.
    ///
    /// # Errors
    /// Never: a failing accept is tried again.
    pub async fn run(self, drain: Drain) -> Result<(), Infallible> {
        let Self { listener, limits, config, service, admit } = self;
        let http2 = Arc::new(Settings::new(&config));
        let log = Arc::new(Logs::default());
        let mut connections = JoinSet::new();
        let mut number = 0_u64;
        let mut processes = Processes::default();
        let mut backoff = Backoff::default();
        loop {
            let accepted = tokio::select! {
                () = drain.begun() => break,
                Some(_) = connections.join_next() => continue, // reaped as they end
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    if let Some(pause) = backoff.after(&error) {
                        log.accept_failed(&error);
                        tokio::select! {
                            () = drain.begun() => break,
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                    continue;
                }
            };
            backoff = Backoff::default();
            let (peer, permit) = match admitted(&stream, &limits, &mut processes) {
                Ok(admitted) => admitted,
                Err((refused, uid)) => {
                    log.refused(refused, uid);
                    continue;
                }
            };
            number += 1;
            let span = tracing::info_span!("connection", number, pid = peer.pid, uid = peer.uid);
            let (session, work) = span.in_scope(|| admit(peer, number));
            let connection = Connection {
                session,
                service: service.clone(),
                http2: http2.clone(),
                first_request: config.first_request,
                drain: drain.clone(),
                log: log.clone(),
            };
            let held = (permit, Open::new());
            connections.spawn(
                async move {
                    connection.run(stream, work).await;
                    drop(held);
                }
                .instrument(span),
            );
        }
        drop(listener); // from here on a successor may bind
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

fn admitted(
    stream: &UnixStream,
    limits: &Limits,
    processes: &mut Processes,
) -> Result<(Peer, super::limits::Permit), (Refused, Option<u32>)> {
    let peer = Peer::of(stream).map_err(|_| (Refused::NoCredentials, None))?.shared(processes);
    let permit = limits.permit(peer.uid, peer.files()).map_err(|refused| (refused, Some(peer.uid)))?;
    Ok((peer, permit))
}

/// The pause after an accept that failed.
#[derive(Debug, Default)]
struct Backoff(u32);

impl Backoff {
    /// None for an error that is the peer's alone. For ours (EMFILE, ENFILE, ENOMEM) the connection stays in
    /// the backlog, and asking again at once would spin.
    fn after(&mut self, error: &io::Error) -> Option<Duration> {
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return None;
        }
        self.0 = (self.0 + 1).min(6);
        Some(Duration::from_millis(10 << self.0).min(Duration::from_millis(500)))
    }
}

/// Log lines that callers can cause, each at most once in ten seconds.
#[derive(Debug)]
struct Logs {
    refused: Seldom,
    accept: Seldom,
}

impl Default for Logs {
    fn default() -> Self {
        let period = Duration::from_secs(10);
        Self { refused: Seldom::new(period), accept: Seldom::new(period) }
    }
}

impl Logs {
    fn refused(&self, reason: Refused, uid: Option<u32>) {
        metrics::refused(reason);
        if let Some(suppressed) = self.refused.event(Instant::now()) {
            tracing::warn!(uid, suppressed, "connection closed: {reason}");
        }
    }

    fn accept_failed(&self, error: &io::Error) {
        if let Some(suppressed) = self.accept.event(Instant::now()) {
            tracing::error!(%error, suppressed, "no connection can be accepted; trying again");
        }
    }
}
