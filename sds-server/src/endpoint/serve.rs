//! The accept loop: a permit, a session and an HTTP/2 connection for each caller.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Buf;
use spiffe_bridge::node::Session;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tower::Service;
use tracing::Instrument as _;

mod accept;
mod authority;
mod connection;
mod cork;
mod exchange;
mod exchanges;
mod http2;
mod keepalive;
mod secured;
mod witness;

pub use secured::{Patience, SecuredServer};

use super::limits::{Config, Holder, Limits, Refused};
use super::metrics::Open;
use super::peer::{Peer, Processes};
use super::uds::Listener;
use crate::runtime::{BoxError, Drain};
use accept::{Accepting, Logs};
use authority::Mended;
use connection::Connection;
use http2::Settings;
use witness::Witnessed;

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
    /// (from 1, over all doors); it must not block, and gives the connection's session, which every request carries in its
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
        let mut processes = Processes::default();
        let mut accepting = Accepting::default();
        loop {
            let stream = tokio::select! {
                Some(_) = connections.join_next() => continue, // reaped as they end
                accepted = accepting.next(|| listener.accept(), &log, &drain) => match accepted {
                    Some(stream) => stream,
                    None => break,
                },
            };
            let (peer, permit) = match admitted(&stream, &limits, &mut processes) {
                Ok(admitted) => admitted,
                Err((refused, Some(uid))) => {
                    log.refused(refused, format_args!("uid {uid}"));
                    continue;
                }
                Err((refused, None)) => {
                    log.refused(refused, "somebody");
                    continue;
                }
            };
            let Ok(stream) = Witnessed::new(stream, &peer, log.clone()) else {
                log.refused(Refused::NoCredentials, format_args!("uid {}", peer.uid));
                continue;
            };
            let number = permit.number();
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
            let held = (permit, Open::local());
            let served = span.in_scope(|| connection.run(Mended::new(stream), work, held));
            connections.spawn(served.instrument(span));
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
    let permit =
        limits.permit(Holder::User(peer.uid), peer.files()).map_err(|refused| (refused, Some(peer.uid)))?;
    Ok((peer, permit))
}
