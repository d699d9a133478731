//! The accept loop of the door to the network: a permit, a handshake, a session and an HTTP/2 connection for each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Buf;
use spiffe_bridge::attest::RemotePeer;
use spiffe_bridge::node::Session;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::Service;
use tracing::Instrument as _;

use super::accept::{Accepting, Logs};
use super::connection::Connection;
use super::http2::Settings;
use crate::endpoint::limits::{Config, Holder, Limits, Permit, Refused};
use crate::endpoint::metrics::Open;
use crate::endpoint::tcp::TcpDoor;
use crate::endpoint::tls::{self, Handshakes};
use crate::runtime::{BoxError, Drain, with_cause};

/// Accepts remote callers and serves them until the drain.
#[derive(Debug)]
pub struct RemoteServer<S, A> {
    door: TcpDoor,
    handshakes: Handshakes,
    limits: Limits,
    config: (Config, tls::Config),
    service: S,
    admit: A,
}

/// What every connection of the door shares.
struct Shared<S, A> {
    service: S,
    admit: A,
    http2: Arc<Settings>,
    config: (Config, tls::Config),
    log: Arc<Logs>,
    drain: Drain,
}

/// What a connection holds until its handshake is over: a place among all, and one among those of its address.
type Place = (OwnedSemaphorePermit, Permit);

impl<S, A, F, B> RemoteServer<S, A>
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Buf + Send> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    A: Fn(RemotePeer, u64) -> (Session, F) + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// Serves `service` on `door`, to peers whose handshakes come to an end. `admit` is called with each of them, as
    /// that of [`Server::new`](super::Server::new).
    pub fn new(
        door: TcpDoor,
        handshakes: Handshakes,
        limits: Limits,
        config: (Config, tls::Config),
        service: S,
        admit: A,
    ) -> Self {
        Self { door, handshakes, limits, config, service, admit }
    }

    /// Runs until the drain, as [`Server::run`](super::Server::run).
    ///
    /// # Errors
    /// Never: a failing accept is tried again.
    pub async fn run(self, drain: Drain) -> Result<(), Infallible> {
        let Self { door, mut handshakes, limits, config, service, admit } = self;
        let http2 = Arc::new(Settings::new(&config.0));
        let (most, per_address) = (config.1.handshakes, Limits::of_handshakes(config.1.handshakes));
        let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)));
        let log = Arc::new(Logs::default());
        let shared = Arc::new(Shared { service, admit, http2, config, log, drain });
        let (log, drain) = (&shared.log, &shared.drain);
        let mut connections = JoinSet::new();
        let mut accepting = Accepting::default();
        loop {
            // Without a free place the next one waits in the backlog: a crowd is served in turn.
            let next = async {
                let place = places.clone().acquire_owned().await.ok()?;
                let (stream, address) = accepting.next(|| door.accept(), log, drain).await?;
                Some((place, stream, address))
            };
            let (place, stream, address) = tokio::select! {
                () = drain.begun() => break,
                Some(_) = connections.join_next() => continue, // reaped as they end
                next = next => match next {
                    Some(next) => next,
                    None => break,
                },
            };
            let holder = Holder::at(address.ip());
            let admitted = per_address
                .permit(holder, 1)
                .map_err(|_| Refused::Handshakes)
                .and_then(|shaking| Ok((shaking, limits.permit(holder, 1)?)));
            let (shaking, permit) = match admitted {
                Ok(admitted) => admitted,
                Err(refused) => {
                    log.refused(refused, address);
                    continue;
                }
            };
            let terms = match handshakes.terms() {
                Ok(terms) => terms,
                Err(error) => {
                    log.refused(Refused::Tls, format_args!("{address}, {}", with_cause(&error)));
                    continue;
                }
            };
            let span = tracing::info_span!("connection", number = permit.number(), peer = %address);
            let (shared, place) = (shared.clone(), (place, shaking));
            connections.spawn(
                async move { shared.connection(terms, stream, address, place, permit).await }
                    .instrument(span),
            );
        }
        drop(door); // from here on a successor may bind
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

impl<S, A, F, B> Shared<S, A>
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Buf + Send> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    A: Fn(RemotePeer, u64) -> (Session, F),
    F: Future<Output = ()> + Send + 'static,
{
    async fn connection(
        &self,
        terms: tls::Terms,
        stream: TcpStream,
        address: SocketAddr,
        place: Place,
        permit: Permit,
    ) {
        let shaken = tokio::select! {
            () = self.drain.begun() => return, // nothing was promised yet
            shaken = tokio::time::timeout(self.config.1.handshake, terms.shake(stream, address)) => shaken,
        };
        drop(place);
        let (stream, peer) = match shaken {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(error)) => {
                return self.log.refused(Refused::Tls, format_args!("{address}, {}", with_cause(&error)));
            }
            Err(_) => return self.log.refused(Refused::HandshakeTime, address),
        };
        let (session, work) = (self.admit)(peer, permit.number());
        let connection = Connection {
            session,
            service: self.service.clone(),
            http2: self.http2.clone(),
            first_request: self.config.0.first_request,
            drain: self.drain.clone(),
            log: self.log.clone(),
        };
        let open = Open::remote();
        connection.run(stream, work).await;
        drop((open, permit));
    }
}
