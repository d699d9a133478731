//! One caller's HTTP/2 connection: from its first byte to its last.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use spiffe_bridge::node::{Session, SessionState};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::Service;
use tracing::Instrument as _;

use super::accept::Logs;
use super::groups::Group;
use super::http2::{Event, Http2, Settings};
use crate::endpoint::limits::Refused;
use crate::runtime::{BoxError, Drain};

/// Time that a connection whose session has ended gets to hear so.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a connection needs beside its socket.
pub(super) struct Connection<S> {
    pub(super) session: Session,
    pub(super) service: S,
    pub(super) http2: Arc<Settings>,
    pub(super) first_request: Duration,
    pub(super) drain: Drain,
    pub(super) log: Arc<Logs>,
}

impl<S, B> Connection<S>
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Buf + Send> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Serves `stream`; `work` runs beside it in `group`, so that neither is polled for the other. `held` is dropped at the
    /// end.
    // No async fn: what that is given it keeps twice, and ten thousand connections have the room for it.
    pub(super) fn run<T, W, H>(
        self,
        stream: T,
        work: W,
        held: H,
        group: &Group,
    ) -> impl Future<Output = ()> + Send + use<T, S, B, W, H>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
        W: Future<Output = ()> + Send + 'static,
        H: Send,
    {
        let Self { session, service, http2, first_request, drain, log } = self;
        let work = group.beside(work.in_current_span());
        let caller = session.caller().clone();
        let mut state = session.state();
        let mut served = Http2::new(stream, &http2, session, service);
        let mut expects = Expects::FirstRequest(Instant::now() + first_request);
        let mut is_draining = false;
        async move {
            loop {
                tokio::select! {
                    event = served.next() => match event {
                        Ok(Event::FirstRequest) if matches!(expects, Expects::FirstRequest(_)) => {
                            expects = Expects::Requests;
                        }
                        Ok(Event::FirstRequest) => served.close(), // its session ended before: this is told so
                        Ok(Event::Gone) => break,
                        Err(error) => {
                            // The peer's doing, and mostly a process that exits: nothing to act on.
                            let cause = std::error::Error::source(&error).map(tracing::field::display);
                            tracing::debug!(%error, cause, "connection ended");
                            break;
                        }
                    },
                    () = expects.overdue() => {
                        if matches!(expects, Expects::FirstRequest(_)) {
                            log.refused(Refused::Silent, &caller.origin);
                        }
                        break;
                    }
                    () = drain.forced() => break,
                    () = drain.begun(), if !is_draining => {
                        is_draining = true;
                        served.close(); // open streams go on until forced
                    }
                    () = ended(&mut state), if !matches!(expects, Expects::End(_)) => {
                        if matches!(expects, Expects::Requests) {
                            served.close(); // its streams tell why
                        }
                        // Who has not asked yet hears it as the answer to the first request, and not as a hang-up.
                        expects = Expects::End(Instant::now() + FAREWELL);
                    }
                }
            }
            drop((work, held));
        }
    }
}

/// What a connection waits for, and until when.
enum Expects {
    FirstRequest(Instant),
    Requests,
    End(Instant),
}

impl Expects {
    async fn overdue(&self) {
        match self {
            Self::FirstRequest(until) | Self::End(until) => sleep_until(*until).await,
            Self::Requests => std::future::pending().await,
        }
    }
}

/// Returns once the session gives nothing more.
async fn ended(state: &mut watch::Receiver<SessionState>) {
    if state.wait_for(|state| matches!(state, SessionState::Ended(_))).await.is_err() {
        std::future::pending::<()>().await; // nobody will say: the connection lives by its streams
    }
}
