//! One stream: a response body that hears its client and yields ready frames while there is room for them.
//!
//! The HTTP/2 library asks for a frame only when the client's window is open. So there is no task and no queue;
//! whatever changed in between, the next frame is of the newest state.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame as BodyFrame};
use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::node::{EndReason, Follower, Interest, Session, SessionState};
use tonic::Status;

use super::frame::{Frame, FrameError, Reader};
use super::limits::Limits;
use super::metrics::{Event, Metrics, RefusedFor};
use super::nack::Reason;
use super::partial::{Partial, Place, Room, SMALL, Unfinished};
use super::request::{Heard, Protocol, Refusal, Request};
use super::status::LiveStream;
use super::subscription::Response;
use super::{delta, sotw};
use crate::runtime::Seldom;

/// Chunks of a client that are handled in one poll: the other streams of the connection have their turn too.
const CHUNKS_PER_POLL: usize = 16;

/// The body of a response: empty, or a live stream.
pub struct Frames<B>(Option<Box<Live<B>>>);

struct Live<B> {
    requests: B,
    reader: Reader,
    caller: Session,
    session: Follower,
    state: SessionState,
    /// What is kept of a message whose end has not come. Boxed: rare.
    partial: Option<Box<Partial>>,
    /// Room for its names, if they are many.
    names: Option<Place>,
    /// Which tokens it wants. Boxed: rare.
    interest: Option<Box<Interest>>,
    /// Whether there may be something to say: the session or the client spoke since we last had nothing. The
    /// HTTP/2 library polls several times a push: the names need not be looked through each time.
    unsaid: bool,
    stream: Arc<LiveStream>,
    protocol: Protocol,
    env: Arc<Environment>,
}

/// What all streams share.
pub(super) struct Environment {
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    pub(super) room: Room,
    /// For names, of all streams.
    pub(super) names: Room,
    /// Bounds what is logged of clients.
    pub(super) log: Seldom,
}

impl<B> Default for Frames<B> {
    fn default() -> Self {
        Self(None)
    }
}

impl<B> Frames<B> {
    pub(super) fn open(
        requests: B,
        session: &Session,
        stream: Arc<LiveStream>,
        env: Arc<Environment>,
    ) -> Self {
        let protocol = stream.engine().protocol();
        env.metrics.record(Event::Opened(protocol));
        Self(Some(Box::new(Live {
            requests,
            reader: Reader::default(),
            caller: session.clone(),
            session: session.follow(),
            state: SessionState::ExpectAttestation,
            partial: None,
            names: None,
            interest: None,
            unsaid: false,
            stream,
            protocol,
            env,
        })))
    }
}

impl<B> Body for Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Frame;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Frame>, Self::Error>>> {
        let Some(live) = &mut self.0 else { return Poll::Ready(None) };
        let frame = match ready!(live.poll(cx)) {
            Ok(data) => BodyFrame::data(data),
            Err(status) => {
                self.0 = None;
                BodyFrame::trailers(trailers(&status))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut map = HeaderMap::new();
    // Fails for a header that cannot be written; tonic escapes what it writes.
    if status.add_header(&mut map).is_err() {
        map.insert("grpc-status", http::HeaderValue::from_static("13")); // INTERNAL
    }
    map
}

impl<B: Body<Data = Bytes> + Unpin> Live<B> {
    /// The next bytes to send, or how the stream ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Status>> {
        for _ in 0..CHUNKS_PER_POLL {
            self.watch(cx)?;
            // Speaking comes before hearing: what a client asks cannot pile up while it does not read.
            if let Some(response) = self.say() {
                self.env.metrics.record(Event::Sent(self.protocol));
                let frame = match self.protocol {
                    Protocol::Sotw => sotw::encode(&response),
                    Protocol::Delta => delta::encode(&response),
                };
                tracing::debug!(stream = self.stream.id, ?response, "sent");
                return Poll::Ready(Ok(frame));
            }
            // Before it is served nothing can be said either: then the session is waited for, which wakes us.
            if self.stream.engine().owes() {
                return Poll::Pending;
            }
            match self.reader.next(self.env.limits.message_bytes) {
                Ok(Some(message)) => {
                    self.partial = None;
                    self.hear(message)?;
                }
                Ok(None) if let Err(error) = self.keep(cx) => {
                    return Poll::Ready(Err(self.refused(RefusedFor::Message, of_partial(error))));
                }
                Ok(None) => match ready!(Pin::new(&mut self.requests).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(chunk) = frame.into_data() {
                            self.reader.push(chunk);
                        }
                    }
                    Some(Err(_)) => return Poll::Ready(Err(Status::cancelled("the request was reset"))),
                    None if self.reader.is_within_message() => {
                        return Poll::Ready(Err(Status::invalid_argument(
                            "the request ends within a message",
                        )));
                    }
                    None => return Poll::Ready(Err(Status::ok(""))),
                },
                Err(error) => return Poll::Ready(Err(self.refused(RefusedFor::Message, of_frame(error)))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Bounds what is kept of a message whose end has not come, and for how long.
    fn keep(&mut self, cx: &mut Context<'_>) -> Result<(), Unfinished> {
        if !self.reader.is_within_message() {
            return Ok(());
        }
        let (room, caller, bytes) = (&self.env.room, &*self.stream.caller, self.reader.awaited());
        match &mut self.partial {
            Some(partial) => {
                partial.grow(room, caller, bytes)?;
                partial.check(cx)
            }
            None => {
                let partial = self.partial.insert(Box::new(Partial::begin(room, caller, bytes)?));
                partial.check(cx)
            }
        }
    }

    /// Follows the session; `Err` when it has ended.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        while let Some(state) = self.session.poll_news(cx) {
            self.state = state;
            self.unsaid = true;
            if let SessionState::Ended(reason) = &self.state {
                let reason = *reason;
                return Err(self.refused(RefusedFor::Session, of_end(reason)));
            }
        }
        Ok(())
    }

    fn say(&mut self) -> Option<Response> {
        if !self.unsaid {
            return None;
        }
        // Until the caller is known nothing is said, not even that a name is not available.
        let response = match &self.state {
            SessionState::Serving(update) => self.stream.engine().next(update, self.env.clock.now()),
            _ => None,
        };
        self.unsaid = response.is_some();
        response
    }

    fn hear(&mut self, message: Bytes) -> Result<(), Status> {
        let request = match self.protocol {
            Protocol::Sotw => sotw::decode(message),
            Protocol::Delta => delta::decode(message),
        };
        // A program that inherited the connection by exec is another caller: it gets nothing by asking for more.
        if let Ok(request) = &request
            && self.stream.engine().is_news(&request.names)
            && let Err(reason) = self.caller.verify()
        {
            return Err(self.refused(RefusedFor::Session, of_end(reason)));
        }
        let now = self.env.clock.now();
        match request.and_then(|request| self.take_in(request, now)) {
            Ok((heard, error)) => {
                self.want_tokens();
                self.unsaid = true;
                self.env.metrics.record(Event::Heard(self.protocol, heard));
                if let (Heard::Nacked(_), Some(reason)) = (heard, error) {
                    let (stream, caller) = (self.stream.id, &self.stream.caller.origin);
                    if let Some(suppressed) = self.env.log.event(Instant::now()) {
                        tracing::warn!(stream, %caller, ?reason, suppressed, "the client refused a secret");
                    }
                }
                Ok(())
            }
            Err(refusal) => {
                let (reason, status) = of_refusal(&refusal);
                Err(self.refused(reason, status))
            }
        }
    }

    fn take_in(&mut self, request: Request, now: Timestamp) -> Result<(Heard, Option<Reason>), Refusal> {
        let (error, is_of_names) = (request.error, !request.names.is_empty() || self.names.is_some());
        let heard = self.stream.engine().request(request, now)?;
        if is_of_names {
            self.make_room()?;
        }
        Ok((heard, error))
    }

    /// Takes room for the names that there are now. A few are not counted: a stream costs more than that anyway.
    fn make_room(&mut self) -> Result<(), Refusal> {
        let bytes = self.stream.engine().name_bytes();
        if bytes <= SMALL {
            self.names = None;
            return Ok(());
        }
        if self.names.as_ref().is_none_or(|place| place.bytes() != bytes) {
            self.names = None; // given back first: it may need less than before
            let place = self.env.names.take(self.stream.caller.account(), bytes);
            self.names = Some(place.ok_or(Refusal::NoRoomForNames)?);
        }
        Ok(())
    }

    /// Has the session bring the tokens that the stream asks for, and no others.
    fn want_tokens(&mut self) {
        let wanted = self.stream.engine().audiences();
        if self.interest.is_none() && wanted.is_empty() {
            return;
        }
        let interest = self.interest.get_or_insert_with(|| Box::new(self.caller.interest()));
        interest.set(wanted);
    }

    fn refused(&self, reason: RefusedFor, status: Status) -> Status {
        self.env.metrics.record(Event::Refused(reason));
        let (stream, caller) = (self.stream.id, &self.stream.caller.origin);
        let text = status.message();
        match reason {
            // A line for each would be ten thousand when one process with many streams ends; its session says it.
            RefusedFor::Session => tracing::debug!(stream, %caller, reason = text, "stream ended"),
            _ => {
                if let Some(suppressed) = self.env.log.event(Instant::now()) {
                    let what = "stream ended: the client broke the protocol";
                    tracing::info!(stream, %caller, reason = text, suppressed, "{what}");
                }
            }
        }
        status
    }
}

impl<B> Drop for Live<B> {
    fn drop(&mut self) {
        self.env.metrics.record(Event::Closed(self.protocol));
    }
}

/// Envoy logs the message of every status but Unavailable (envoy-sds.md §2.4): it tells the operator what to do.
pub(crate) fn of_end(reason: EndReason) -> Status {
    match reason {
        EndReason::Draining => Status::unavailable(reason.to_string()),
        _ => Status::permission_denied(reason.to_string()),
    }
}

pub(crate) fn of_frame(error: FrameError) -> Status {
    match error {
        FrameError::Compressed => Status::unimplemented(error.to_string()),
        FrameError::Flag(_) => Status::invalid_argument(error.to_string()),
        FrameError::TooLarge { .. } => Status::resource_exhausted(error.to_string()),
    }
}

fn of_partial(error: Unfinished) -> Status {
    match error {
        Unfinished::NoRoom => Status::resource_exhausted(error.to_string()),
        Unfinished::TooSlow => Status::deadline_exceeded(error.to_string()),
    }
}

fn of_refusal(refusal: &Refusal) -> (RefusedFor, Status) {
    let text = refusal.to_string();
    match refusal {
        Refusal::TooManyNames { .. } | Refusal::NoRoomForNames => {
            (RefusedFor::Names, Status::resource_exhausted(text))
        }
        Refusal::Undecodable => (RefusedFor::Message, Status::invalid_argument(text)),
        Refusal::TypeUrl | Refusal::NodeChanged | Refusal::NodeTooLong => {
            (RefusedFor::Contract, Status::invalid_argument(text))
        }
    }
}
