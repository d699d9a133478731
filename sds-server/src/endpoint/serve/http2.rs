//! HTTP/2 on one connection, all in one future: the library, the exchanges it brings, and the socket.
//!
//! Each poll is a turn: exchanges that were woken go on, the library reads and writes, and what it wrote goes out
//! together. Why not through hyper: docs/decisions/0003-http2.md.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Buf;
use h2::server::{Connection, Handshake};
use http::{Request, Response};
use http_body::Body;
use spiffe_bridge::node::Session;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::util::Oneshot;
use tower::{Service, ServiceExt as _};

use super::cork::Cork;
use super::exchange::{Exchange, RequestBody};
use super::groups::TURN;
use super::keepalive::KeepAlive;
use super::seats::Seats;
use crate::endpoint::limits::Config;
use crate::runtime::BoxError;

/// Bytes that a peer may send us unread on a stream: requests are small.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same on a connection: this while there are few, and less the more there are, but never less than HTTP/2 has it.
/// RFC 9113 §6.9.2.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const LEAST_WINDOW: u32 = 64 * 1024;
/// What each of the connections has of this, were they all open at one time. With those that came when there were fewer
/// it is under 1 GiB for 12,288 of them.
const ALL_WINDOWS: u32 = 64 * 1024 * 1024;
/// What frames of less than 256 bytes may cost that wait to be heard, counted as the library does: some 2,000 of the
/// smallest, or the ACKs of 4,096 names that come at once. Beyond it the connection is closed. By default it is half of
/// the window, which an Envoy with a thousand secrets would meet.
const SMALL_FRAMES: usize = 512 * 1024;
/// Bytes of ours that wait in a stream for a peer that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a peer opened and reset before we took them, and that we reset for its errors, until the
/// connection is closed (rapid reset, CVE-2023-44487).
const RESET_STREAMS: usize = 64;

/// Streams whose answer is complete, or that we reset, before the client has said all: what is still on its way of them is
/// expected for a second. Of those beyond, it counts as the client's error, and [`RESET_STREAMS`] of these close the
/// connection: so they are as many as may be open at one time, each refused at once. RFC 9113 §8.1.
const fn answered_early(config: &Config) -> usize {
    config.streams_per_connection as usize
}

/// Exchanges that go on before the library has its turn, so that what they say is sent while it is at hand.
const AT_ONCE: usize = 64;
/// After so many the clock is looked at: a push is cheap, and is sent with many others, but the first word on a stream has
/// the caller looked at.
const A_FEW: usize = 8;

/// A request as the service takes it.
type Call = Request<tonic::body::Body>;

/// How every connection is served.
pub(super) struct Settings {
    builder: h2::server::Builder,
    keepalive: [Duration; 2],
    open: AtomicU32,
}

/// A connection that is counted.
struct Counted(Arc<Settings>);

/// A connection that is being served.
pub(super) struct Http2<T, S: Service<Call>, B: Body> {
    cork: Cork<T>,
    state: State<T, B>,
    exchanges: Seats<Exchange<Oneshot<S, Call>, B>>,
    session: Session,
    /// All connections'.
    service: Arc<S>,
    is_closing: bool,
    has_asked: bool,
    counted: Counted,
}

enum State<T, B: Body> {
    ExpectPreface(Handshake<Cork<T>, B::Data>),
    Serving(Connection<Cork<T>, B::Data>, Option<KeepAlive>),
}

/// What a peer has done.
pub(super) enum Event {
    /// It has sent its first request.
    FirstRequest,
    /// It has gone, or the connection is closed.
    Gone,
}

/// Why a connection ended before its peer closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("the peer broke HTTP/2, or closed the connection within it")]
    Http2(#[from] h2::Error),
    #[error("the socket failed")]
    Socket(#[from] io::Error),
    #[error("the peer gave no sign of life")]
    Silent,
}

impl Settings {
    pub(super) fn new(config: &Config) -> Self {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .data_frame_budget(SMALL_FRAMES)
            .max_concurrent_streams(config.streams_per_connection)
            .max_header_list_size(config.header_list_bytes)
            .max_concurrent_reset_streams(answered_early(config))
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .max_local_error_reset_streams(Some(RESET_STREAMS));
        Self {
            builder,
            keepalive: [config.keepalive_interval, config.keepalive_timeout],
            open: AtomicU32::new(0),
        }
    }
}

impl Counted {
    /// One more, and the builder for it.
    fn one(settings: &Arc<Settings>) -> (Self, h2::server::Builder) {
        let open = settings.open.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mut builder = settings.builder.clone();
        builder.initial_connection_window_size(window(open));
        (Self(settings.clone()), builder)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the last of `open` connections may send us unread.
fn window(open: u32) -> u32 {
    (ALL_WINDOWS / open.max(1)).clamp(LEAST_WINDOW, CONNECTION_WINDOW)
}

impl<T, S, B> Http2<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Call, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data: Buf> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Serves `service` on `io`; each request carries `session` in its extensions.
    pub(super) fn new(io: T, settings: &Arc<Settings>, session: Session, service: Arc<S>) -> Self {
        let cork = Cork::new(io);
        let (counted, builder) = Counted::one(settings);
        let state = State::ExpectPreface(builder.handshake(cork.share()));
        let exchanges = Seats::new();
        Self { cork, state, exchanges, session, service, is_closing: false, has_asked: false, counted }
    }

    /// Works until the next event.
    ///
    /// # Errors
    /// [`ConnectionError`], after which it is to be dropped.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ConnectionError>> {
        let event = self.poll_turn(cx);
        if let Poll::Ready(Ok(Event::FirstRequest)) = event {
            return event; // the turn goes on: what was written so far goes out with the answer
        }
        match self.cork.poll_release(cx) {
            Poll::Ready(Err(error)) if event.is_pending() => Poll::Ready(Err(error.into())),
            _ => event,
        }
    }

    /// Takes no more requests after a GOAWAY; those that are there go on.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
        if let State::Serving(connection, _) = &mut self.state {
            connection.graceful_shutdown();
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ConnectionError>> {
        if let State::ExpectPreface(handshake) = &mut self.state {
            let mut connection = ready!(Pin::new(handshake).poll(cx))?;
            let [interval, timeout] = self.counted.0.keepalive;
            let keepalive = connection.ping_pong().map(|pings| KeepAlive::new(pings, interval, timeout));
            self.state = State::Serving(connection, keepalive);
            if self.is_closing {
                self.close();
            }
        }
        let State::Serving(connection, keepalive) = &mut self.state else { return Poll::Pending };
        if let Some(keepalive) = keepalive
            && keepalive.poll_silent(cx, self.cork.heard()).is_ready()
        {
            return Poll::Ready(Err(ConnectionError::Silent));
        }
        let end = Instant::now() + TURN * 4;
        loop {
            let mut polled = 0;
            let is_enough = || {
                polled += 1;
                polled == AT_ONCE || polled % A_FEW == 0 && Instant::now() >= end
            };
            // Before the library has its turn, which sends what they say.
            let (mut is_asked, mut is_more) = (false, self.exchanges.poll_some(cx, is_enough));
            while let Poll::Ready(accepted) = connection.poll_accept(cx) {
                let Some(accepted) = accepted else { return Poll::Ready(Ok(Event::Gone)) };
                let (request, respond) = accepted?;
                let mut request = request.map(|body| tonic::body::Body::new(RequestBody::new(body)));
                request.extensions_mut().insert(self.session.clone());
                let answer = S::clone(&self.service).oneshot(request);
                self.exchanges.push(Exchange::new(answer, respond, self.session.caller().clone()));
                (is_asked, is_more) = (true, true);
            }
            if is_asked && !std::mem::replace(&mut self.has_asked, true) {
                return Poll::Ready(Ok(Event::FirstRequest));
            }
            if !is_more {
                return Poll::Pending;
            }
            if Instant::now() >= end {
                cx.waker().wake_by_ref(); // the other connections have their turn too
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connections_may_send_unread_stays_bounded_however_many_there_are() {
        let all = |connections| (1..=connections).map(|open| u64::from(window(open))).sum::<u64>();
        assert_eq!(all(64), 64 << 20, "a few have a whole one");
        assert!(all(12_288) < 1 << 30, "one user's, as limits.connections_per_uid has it");
        assert!(window(1_000_000) >= 65_535);
    }
}
