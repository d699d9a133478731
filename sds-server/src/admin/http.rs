//! A small HTTP/1.1 loop: one request a connection, few connections, all bounded in time.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

use crate::runtime::Drain;

/// Operators and one or two scrapers; more wait in the backlog.
const MAX_CONNECTIONS: usize = 32;
/// Time to send a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Time for a connection in all: a rescan of a large directory takes seconds.
const WHOLE: Duration = Duration::from_secs(120);
/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub(super) trait Door: Send + Sync {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// Waits for the next one. `PermissionDenied` says that one came from somebody who is not answered.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Serves `router` on what `door` gives, until the drain; then open requests are finished until it is forced.
pub(super) async fn run(door: impl Door, router: Router, drain: Drain) {
    let mut http1 = hyper::server::conn::http1::Builder::new();
    http1.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false).max_headers(64);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = drain.begun() => break,
            Some(_) = connections.join_next() => continue,
            accepted = door.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok(stream) => {
                let service = TowerToHyperService::new(router.clone());
                let served = http1.serve_connection(TokioIo::new(stream), service);
                let drain = drain.clone();
                let served = async move {
                    let mut served = pin!(served);
                    tokio::select! {
                        _ = served.as_mut() => return,
                        // One that has asked nothing yet is closed: nobody waits for its head.
                        () = drain.begun() => served.as_mut().graceful_shutdown(),
                    }
                    let _ = served.await; // A peer that went away is no matter.
                };
                connections.spawn(timeout(WHOLE, served).in_current_span());
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(%error, "admin connection refused");
            }
            Err(error) => {
                tracing::warn!(%error, "no admin connection can be accepted; trying again");
                tokio::select! {
                    () = drain.begun() => break,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
    let finish = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = drain.forced() => {}
        () = finish => {}
    }
}
