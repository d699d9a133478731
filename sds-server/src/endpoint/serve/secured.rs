//! The accept loop of a door that asks for certificates: a permit, a handshake, a session and an HTTP/2 connection for
//! each.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use rustls::pki_types::CertificateDer;
use spiffe_bridge::node::Session;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;
use tracing::Instrument as _;

use super::accept::{Accepting, Logs};
use super::authority::Mended;
use super::connection::Connection;
use super::groups::{First, Group, Groups, Job};
use super::http2::Settings;
use crate::endpoint::door::Door;
use crate::endpoint::limits::{Config, Limits, Permit, Refused};
use crate::endpoint::tls::{self, Authorities, Handshakes};
use crate::runtime::{BoxError, Crowd, Drain, with_cause};

/// Accepts callers with certificates and serves them until the drain.
#[derive(Debug)]
pub struct SecuredServer<D, T, S, A> {
    door: D,
    handshakes: Handshakes<T>,
    limits: Limits,
    config: Config,
    patience: Patience,
    service: S,
    admit: A,
    crowd: Option<Handle>,
}

/// What handshakes may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// At one time; more wait to be accepted. One holder has a quarter of them.
    pub handshakes: u32,
    /// For each.
    pub time: Duration,
}

/// What every connection of the door shares.
struct Shared<S, A> {
    service: Arc<S>,
    admit: A,
    http2: Arc<Settings>,
    config: Config,
    patience: Patience,
    log: Arc<Logs>,
    drain: Drain,
}

/// For a handshake that is under way when the drain begins: who was accepted would count a connection that failed, and most
/// need some milliseconds. Then they are told to go elsewhere.
const LAST: Duration = Duration::from_secs(1);

/// What a connection holds until its handshake is over: a place among all, and one among those of its holder.
type Place = (OwnedSemaphorePermit, Permit);

impl<D, T, S, A, F, B> SecuredServer<D, T, S, A>
where
    D: Door,
    T: Authorities,
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Buf + Send> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    A: Fn(D::Origin, &[CertificateDer<'static>], u64) -> Result<(Session, F), BoxError>
        + Send
        + Sync
        + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// Serves `service` on `door`, to peers whose handshakes come to an end. `admit` is called with where each of them
    /// comes from and the chain whose key it proved, as that of [`Server::new`](super::Server::new); whom it refuses is
    /// cut off.
    pub fn new(
        door: D,
        handshakes: Handshakes<T>,
        limits: Limits,
        config: Config,
        patience: Patience,
        service: S,
        admit: A,
    ) -> Self {
        Self { door, handshakes, limits, config, patience, service, admit, crowd: None }
    }

    /// Serves callers that keep it busy on threads of another runtime.
    #[must_use]
    pub fn with_crowd(self, crowd: &Crowd) -> Self {
        Self { crowd: crowd.handle().cloned(), ..self }
    }

    /// Runs until the drain, as [`Server::run`](super::Server::run).
    ///
    /// # Errors
    /// Never: a failing accept is tried again.
    pub async fn run(self, drain: Drain) -> Result<(), Infallible> {
        let Self { door, mut handshakes, limits, config, patience, service, admit, crowd } = self;
        let http2 = Arc::new(Settings::new(&config));
        let (most, per_holder) = (patience.handshakes, Limits::of_handshakes(patience.handshakes));
        let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)));
        let (service, log) = (Arc::new(service), Arc::new(Logs::default()));
        let shared = Arc::new(Shared { service, admit, http2, config, patience, log, drain });
        let (log, drain) = (&shared.log, &shared.drain);
        let groups = Groups::<First>::new(crowd, drain);
        let mut accepting = Accepting::default();
        // Who waits already, as while a successor takes the door over, is not turned away for want of our own certificate.
        tokio::select! {
            () = drain.begun() => {}
            () = handshakes.ready() => {}
        }
        loop {
            // Without a free place the next one waits in the backlog: a crowd is served in turn.
            let next = async {
                let place = places.clone().acquire_owned().await.ok()?;
                let (stream, origin) = accepting.next(|| door.accept(), log, drain).await?;
                Some((place, stream, origin))
            };
            let (place, stream, origin) = tokio::select! {
                () = drain.begun() => break,
                next = next => match next {
                    Some(next) => next,
                    None => break,
                },
            };
            let Some(origin) = origin else {
                log.refused(Refused::NoCredentials, "somebody");
                continue;
            };
            let holder = D::holder(origin);
            let admitted = per_holder
                .permit(holder, 1)
                .map_err(|_| Refused::Handshakes)
                .and_then(|shaking| Ok((shaking, limits.permit(holder, 1)?)));
            let (shaking, permit) = match admitted {
                Ok(admitted) => admitted,
                Err(refused) => {
                    log.refused(refused, origin);
                    continue;
                }
            };
            let terms = match handshakes.terms() {
                Ok(terms) => terms,
                Err(error) => {
                    log.refused(D::KIND.refused(), format_args!("{origin}, {}", with_cause(&error)));
                    continue;
                }
            };
            let span = tracing::debug_span!("connection", number = permit.number(), peer = %origin);
            let (shared, place) = (shared.clone(), (place, shaking));
            let number = permit.number();
            let begin = move |group: &Group| -> Job {
                let group = group.clone();
                let connection = async move {
                    shared.connection::<D, F>(terms, stream, origin, place, permit, &group).await;
                };
                Box::pin(connection.instrument(span))
            };
            groups.begin(D::party(origin), number, Box::new(begin));
        }
        drop(door); // from here on a successor may bind
        groups.ended().await;
        Ok(())
    }
}

impl<S, A, B> Shared<S, A>
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Buf + Send> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    async fn connection<D, F>(
        &self,
        terms: tls::Terms,
        stream: D::Stream,
        origin: D::Origin,
        place: Place,
        permit: Permit,
        group: &Group,
    ) where
        D: Door,
        A: Fn(D::Origin, &[CertificateDer<'static>], u64) -> Result<(Session, F), BoxError>,
        F: Future<Output = ()> + Send + 'static,
    {
        let refused = |error: &dyn std::error::Error| {
            self.log.refused(D::KIND.refused(), format_args!("{origin}, {}", with_cause(error)));
        };
        // Boxed: the connection lasts, and needs no room for its handshake.
        let shaking = Box::pin(tokio::time::timeout(self.patience.time, terms.shake(stream)));
        let shaken = tokio::select! {
            () = leaving(&self.drain) => return, // nothing was promised yet
            shaken = shaking => shaken,
        };
        drop(place);
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return refused(&error),
            Err(_) => return self.log.refused(Refused::HandshakeTime, origin),
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let (session, work) = match (self.admit)(origin, chain, permit.number()) {
            Ok(admitted) => admitted,
            Err(error) => return refused(&*error),
        };
        let connection = Connection {
            session,
            service: self.service.clone(),
            http2: self.http2.clone(),
            first_request: self.config.first_request,
            drain: self.drain.clone(),
            log: self.log.clone(),
        };
        connection.run(Mended::new(stream), work, (D::KIND.open(), permit), group).await;
    }
}

/// Returns when a handshake is not waited for any longer.
async fn leaving(drain: &Drain) {
    drain.begun().await;
    let _ = tokio::time::timeout(LAST, drain.forced()).await;
}
