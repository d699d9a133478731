//! One request and its response: the service's answer, then its body as the peer has room for it.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame};
use spiffe_bridge::node::Caller;

use crate::endpoint::metrics;
use crate::runtime::{BoxError, Seldom};

/// Lines of the log on responses and requests that break off: callers ask for as many as they like.
static BROKEN: Seldom = Seldom::several(10, Duration::from_secs(10));

/// The body of a request, as HTTP/2 brings it.
pub(super) struct RequestBody(RecvStream);

impl RequestBody {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self(stream)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.0.poll_data(cx)) {
            Some(Ok(data)) => {
                // The peer may send as much again. Refused only for more than came.
                let _ = self.0.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            // RFC 9113 §8.1: the rest is not needed, or the client does not want the answer; no fault in either.
            Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => self.0.poll_trailers(cx).map(|end| end.transpose().map(|t| t.map(Frame::trailers))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Ends when the response is sent, the peer has reset the stream, or what works on it has panicked: that is of this
/// request alone, and the others of the connection go on.
pub(super) struct Exchange<F, B: Body> {
    state: State<F, B>,
    caller: Arc<Caller>,
}

enum State<F, B: Body> {
    /// The service works on it. Boxed: it is larger than what follows, which lasts.
    ExpectAnswer(Pin<Box<F>>, SendResponse<B::Data>),
    ExpectBody(Sending<B>),
}

/// A response whose head is sent.
struct Sending<B: Body> {
    body: B,
    stream: SendStream<B::Data>,
    /// Waits for room in the peer's window.
    chunk: Option<B::Data>,
}

impl<F, B> Future for Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data: Buf> + Unpin,
    B::Error: Into<BoxError>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Unwind safe: what it leaves behind is dropped, and what it shares with others is behind locks that are taken
        // poisoned or not.
        match catch_unwind(AssertUnwindSafe(|| self.poll_sent(cx))) {
            Ok(sent) => match ready!(sent) {
                Ok(()) => {}
                Err(Ended::ByPeer(error)) => tracing::debug!(%error, "stream ended"),
                Err(Ended::ByService(error)) => {
                    if let Some(suppressed) = BROKEN.event(Instant::now()) {
                        tracing::warn!(caller = %self.caller.origin, %error, suppressed, "a response broke off");
                    }
                    self.reset(Reason::INTERNAL_ERROR);
                }
            },
            // What the panic was is told by the hook of telemetry.
            Err(_) => {
                metrics::panicked();
                if let Some(suppressed) = BROKEN.event(Instant::now()) {
                    tracing::error!(caller = %self.caller.origin, suppressed, "a request of this caller was reset: its work broke off");
                }
                self.reset(Reason::INTERNAL_ERROR);
            }
        }
        Poll::Ready(())
    }
}

/// Why a response was not sent to its end.
enum Ended {
    ByPeer(h2::Error),
    ByService(BoxError),
}

impl From<h2::Error> for Ended {
    fn from(error: h2::Error) -> Self {
        Self::ByPeer(error)
    }
}

// Nothing in it is pinned in place.
impl<F, B: Body> Unpin for Exchange<F, B> {}

impl<F, B> Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data: Buf> + Unpin,
    B::Error: Into<BoxError>,
{
    /// The service's `answer` to a request of `caller`, which is told by `respond`.
    pub(super) fn new(answer: F, respond: SendResponse<B::Data>, caller: Arc<Caller>) -> Self {
        Self { state: State::ExpectAnswer(Box::pin(answer), respond), caller }
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.state {
            State::ExpectAnswer(_, respond) => respond.send_reset(reason),
            State::ExpectBody(sending) => sending.stream.send_reset(reason),
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            let sending = match &mut self.state {
                State::ExpectBody(sending) => return sending.poll(cx),
                State::ExpectAnswer(answer, respond) => match answer.as_mut().poll(cx) {
                    Poll::Ready(Ok(response)) => begin(response, respond)?,
                    Poll::Ready(Err(never)) => match never {},
                    // Nobody waits for the answer any more?
                    Poll::Pending => return respond.poll_reset(cx).map(|reset| Err(of_reset(reset))),
                },
            };
            let Some(sending) = sending else { return Poll::Ready(Ok(())) };
            self.state = State::ExpectBody(sending);
        }
    }
}

fn of_reset(reset: Result<Reason, h2::Error>) -> Ended {
    Ended::ByPeer(reset.map_or_else(|error| error, h2::Error::from))
}

/// Sends the head; `None` if that is all.
fn begin<B: Body<Data: Buf>>(
    response: Response<B>,
    respond: &mut SendResponse<B::Data>,
) -> Result<Option<Sending<B>>, h2::Error> {
    let (mut head, body) = response.into_parts();
    let is_all = body.is_end_stream();
    if let Some(length) = body.size_hint().exact().filter(|_| !is_all) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    date(&mut head.headers);
    let stream = respond.send_response(Response::from_parts(head, ()), is_all)?;
    Ok((!is_all).then_some(Sending { body, stream, chunk: None }))
}

/// RFC 9110 §6.6.1: a server that has a clock says what it shows.
fn date(headers: &mut HeaderMap) {
    if let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
        headers.insert(header::DATE, now);
    }
}

impl<B> Sending<B>
where
    B: Body<Data: Buf> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            if self.chunk.is_some() && !ready!(self.poll_room(cx))? {
                return Poll::Ready(Ok(())); // the stream is over
            }
            if let Some(chunk) = self.chunk.take() {
                let is_all = self.body.is_end_stream();
                self.stream.send_data(chunk, is_all)?;
                if is_all {
                    return Poll::Ready(Ok(()));
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                return self.stream.poll_reset(cx).map(|reset| Err(of_reset(reset)));
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(chunk))) => {
                    // No more is asked for than what shows that there is room: the window is shared by all streams.
                    self.stream.reserve_capacity(1);
                    self.chunk = Some(chunk);
                }
                Some(Ok(Err(other))) => {
                    if let Ok(trailers) = other.into_trailers() {
                        return Poll::Ready(Ok(self.stream.send_trailers(trailers)?));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(Ended::ByService(error.into()))),
                // Its end was not known before.
                None => return Poll::Ready(Ok(self.stream.send_trailers(HeaderMap::new())?)),
            }
        }
    }

    /// Waits until some of the chunk may be sent; `false` if nothing ever can be.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        let is_empty = self.chunk.as_ref().is_none_or(|chunk| !chunk.has_remaining());
        while !is_empty && self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(room) => drop(room?),
                None => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }
}
