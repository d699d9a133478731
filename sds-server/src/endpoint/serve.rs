//! Callers are accepted: a permit, and, when it is their process's turn, a session and an HTTP/2 connection for each.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use spiffe_bridge::node::Session;
use tokio::runtime::Handle;
use tower::Service;
use tracing::Instrument as _;

mod accept;
mod acceptor;
mod authority;
mod connection;
mod cork;
mod exchange;
mod groups;
mod http2;
mod keepalive;
mod seats;
mod secured;
mod witness;

pub use groups::Party;
pub use secured::{Patience, SecuredServer};

use super::limits::{Config, Holder, Limits, Permit, Refused};
use super::metrics::Open;
use super::peer::{Credentials, Peer, Processes};
use super::uds::Listener;
use crate::runtime::{BoxError, Crowd, Drain};
use accept::Logs;
use acceptor::Acceptor;
use authority::Mended;
use connection::Connection;
use groups::{Group, Groups, Job, Newcomer};
use http2::Settings;
use witness::Witnessed;

/// So often at most those are looked for who left before their turn, when there is no place for another.
const PURGE: Duration = Duration::from_millis(50);

/// Accepts callers and serves them until the drain.
#[derive(Debug)]
pub struct Server<S, A> {
    listener: Listener,
    limits: Limits,
    config: Config,
    service: S,
    admit: A,
    crowd: Option<Handle>,
}

impl<S, A, F, B> Server<S, A>
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Buf + Send> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    A: Fn(Peer, u64) -> (Session, F) + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// Serves `service` on `listener`. `admit` is called with each peer and the number of its connection (from 1, over all
    /// doors) when it is the peer's turn; it must not block, and gives the connection's session, which every request carries
    /// in its extensions, and the work that keeps the session true, which runs until it ends or the connection does.
    pub fn new(listener: Listener, limits: Limits, config: Config, service: S, admit: A) -> Self {
        Self { listener, limits, config, service, admit, crowd: None }
    }

    /// Serves callers that keep it busy on threads of another runtime.
    #[must_use]
    pub fn with_crowd(self, crowd: &Crowd) -> Self {
        Self { crowd: crowd.handle().cloned(), ..self }
    }

    /// Runs until the drain: then the socket goes, connections get a GOAWAY and finish their streams, and
    /// those that are left when the drain is forced are dropped.
    ///
    /// # Errors
    /// No thread can be had to accept on, or no file for its bell.
    pub async fn run(self, drain: Drain) -> io::Result<()> {
        let Self { listener, limits, config, service, admit, crowd } = self;
        let http2 = Arc::new(Settings::new(&config));
        let log = Arc::new(Logs::default());
        let groups = Arc::new(Groups::new(crowd, &drain));
        let (service, first_request) = (Arc::new(service), config.first_request);
        let processes = Processes::default();
        let shared =
            Shared { service, admit, http2, limits, processes, first_request, log: log.clone(), drain };
        let shared = Arc::new(shared);
        let (drain, taken) = (shared.drain.clone(), groups.clone());
        let mut purged = Instant::now();
        let take = move |stream: UnixStream| {
            let Ok(credentials) = Credentials::of(&stream) else {
                return shared.log.refused(Refused::NoCredentials, "somebody");
            };
            let Credentials { pid, uid, .. } = credentials;
            let mut permit = shared.limits.permit(Holder::User(uid), 1);
            if permit.is_err() && purged.elapsed() > PURGE {
                taken.purge();
                purged = Instant::now();
                permit = shared.limits.permit(Holder::User(uid), 1);
            }
            match permit {
                Ok(permit) => {
                    let (party, number) = (Party::Process(pid), permit.number());
                    let accepted = Accepted { stream, credentials, permit, shared: shared.clone() };
                    taken.begin(party, number, accepted);
                }
                Err(refused) => shared.log.refused(refused, format_args!("uid {uid}")),
            }
        };
        let (listener, file) = listener.unwatched()?;
        let acceptor = Acceptor::start(listener, &log, take)?;
        drain.begun().await;
        acceptor.stop().await;
        drop(file); // from here on a successor may bind
        groups.ended().await;
        Ok(())
    }
}

/// What every connection shares.
struct Shared<S, A> {
    service: Arc<S>,
    admit: A,
    http2: Arc<Settings>,
    limits: Limits,
    processes: Processes,
    first_request: Duration,
    log: Arc<Logs>,
    drain: Drain,
}

/// A connection that has a permit and waits for its turn.
struct Accepted<S, A> {
    stream: UnixStream,
    credentials: Credentials,
    permit: Permit,
    shared: Arc<Shared<S, A>>,
}

impl<S, A, F, B> Newcomer for Accepted<S, A>
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Buf + Send> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    A: Fn(Peer, u64) -> (Session, F) + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// Whether the other end is closed.
    fn has_left(&self) -> bool {
        let mut end = PollFd::new(&self.stream, PollFlags::empty());
        poll(std::slice::from_mut(&mut end), Some(&Timespec::default())).is_ok()
            && end.revents().contains(PollFlags::HUP)
    }

    fn begin(self, group: &Group) -> Option<Job> {
        let Self { stream, credentials, mut permit, shared } = self;
        let Credentials { pid, uid, .. } = credentials;
        let admitted = shared.peer(&stream, credentials, &mut permit).and_then(|peer| {
            let stream = Witnessed::new(stream, &peer, shared.log.clone());
            Ok((peer, stream.map_err(|_| Refused::NoCredentials)?))
        });
        let (peer, stream) = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                shared.log.refused(refused, format_args!("uid {uid}"));
                return None;
            }
        };
        let number = permit.number();
        // Entered at every poll, and so of the debug level alone: what is told above names its caller itself.
        let span = tracing::debug_span!("connection", number, pid, uid);
        let (session, work) = span.in_scope(|| (shared.admit)(peer, number));
        let connection = Connection {
            session,
            service: shared.service.clone(),
            http2: shared.http2.clone(),
            first_request: shared.first_request,
            drain: shared.drain.clone(),
            log: shared.log.clone(),
        };
        let held = (permit, Open::local());
        let served = span.in_scope(|| connection.run(Mended::new(stream), work, held, group));
        Some(Box::pin(served.instrument(span)))
    }
}

impl<S, A> Shared<S, A> {
    /// The peer with a hold on its process, and the files for both.
    fn peer(&self, stream: &UnixStream, of: Credentials, permit: &mut Permit) -> Result<Peer, Refused> {
        let peer = Peer::hold(stream, of).map_err(|_| Refused::NoCredentials)?.shared(&self.processes);
        self.limits.grow(permit, peer.files() - 1)?;
        Ok(peer)
    }
}
