//! One caller's HTTP/2 connection: from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use spiffe_bridge::node::Session;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};
use tower::Service;
use tracing::Instrument as _;

use super::accept::Logs;
use super::groups::Group;
use super::http2::{ConnectionError, Event, Http2, Settings};
use crate::endpoint::limits::Refused;
use crate::runtime::{BoxError, Drain};

/// Time that a connection whose session has ended gets to hear so.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a connection needs beside its socket.
pub(super) struct Connection<S> {
    pub(super) session: Session,
    pub(super) service: Arc<S>,
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
        let mut work = Some(group.beside(work.in_current_span()));
        let mut served = Http2::new(stream, &http2, session.clone(), service);
        let mut expects = Expects::first_request(first_request);
        async move {
            loop {
                match poll_fn(|cx| poll_news(cx, &mut served, &mut expects, &session, &drain, work.is_some()))
                    .await
                {
                    News::Http2(Ok(Event::FirstRequest)) if matches!(expects, Expects::FirstRequest(_)) => {
                        expects = Expects::Requests;
                    }
                    News::Http2(Ok(Event::FirstRequest)) => served.close(), // its session ended before: this is told so
                    News::Http2(Ok(Event::Gone)) => break,
                    News::Http2(Err(error)) => {
                        // The peer's doing, and mostly a process that exits: nothing to act on.
                        let cause = std::error::Error::source(&error).map(tracing::field::display);
                        tracing::debug!(%error, cause, "connection ended");
                        break;
                    }
                    News::Overdue => {
                        if matches!(expects, Expects::FirstRequest(_)) {
                            log.refused(Refused::Silent, &session.caller().origin);
                        }
                        break;
                    }
                    News::Forced => break,
                    News::Draining => {
                        work = None; // which ends the session
                        served.close(); // open streams go on until forced
                    }
                    News::Ended => {
                        if matches!(expects, Expects::Requests) {
                            served.close(); // its streams tell why
                        }
                        // Who has not asked yet hears it as the answer to the first request, and not as a hang-up.
                        expects = Expects::end();
                    }
                }
            }
            drop((work, held));
        }
    }
}

/// What a connection waits for, and until when. Boxed: most have asked, and wait for nothing.
enum Expects {
    FirstRequest(Pin<Box<Sleep>>),
    Requests,
    End(Pin<Box<Sleep>>),
}

impl Expects {
    fn first_request(within: Duration) -> Self {
        Self::FirstRequest(Box::pin(sleep(within)))
    }

    fn end() -> Self {
        Self::End(Box::pin(sleep(FAREWELL)))
    }

    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::FirstRequest(until) | Self::End(until) => until.as_mut().poll(cx).is_ready(),
            Self::Requests => false,
        }
    }
}

/// What a connection has to act on.
enum News {
    Http2(Result<Event, ConnectionError>),
    Overdue,
    Draining,
    Forced,
    Ended,
}

/// The next of it. One look at each, as there are ten thousand connections; the group has it polled as the drain goes on.
fn poll_news<T, S, B>(
    cx: &mut Context<'_>,
    served: &mut Http2<T, S, B>,
    expects: &mut Expects,
    session: &Session,
    drain: &Drain,
    is_working: bool,
) -> Poll<News>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>, Error = Infallible> + Clone,
    B: http_body::Body<Data: Buf> + Unpin,
    B::Error: Into<BoxError>,
{
    if is_working && drain.has_begun() {
        return Poll::Ready(News::Draining);
    }
    if drain.is_forced() {
        return Poll::Ready(News::Forced);
    }
    if !matches!(expects, Expects::End(_)) && session.poll_ended(cx) {
        return Poll::Ready(News::Ended);
    }
    // What has come is heard first, however late we are with it.
    match served.poll_next(cx) {
        Poll::Pending if expects.is_overdue(cx) => Poll::Ready(News::Overdue),
        event => event.map(News::Http2),
    }
}
