//! `opentelemetry.proto.collector.metrics.v1.MetricsService/Export`, on the socket of SDS: what comes is joined to its
//! process by the connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{BoxFuture, Either as Way, FutureExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Either};
use spiffe_bridge::node::{Account, Session};
use tonic::Status;

use super::desk::Desk;
use super::metrics::Refused;
use super::observation::{self, Bounds, Observation};
use crate::runtime::{BoxError, Seldom, Wrap};
use crate::sds::frame::{Frame as Piece, HEADER_BYTES, Reader};
use crate::sds::partial::{Room, Unfinished};

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// An empty `ExportMetricsServiceResponse` in its frame: all was taken.
const TAKEN: &[u8] = &[0; HEADER_BYTES];
/// From the first byte of a flush to its last. Envoy writes it at once.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of flushes whose end has not come; one user has at most half of them. A flush of the shipped sink is 1 KB,
/// and is not even counted. Invariant 11.
const UNFINISHED: usize = 64 << 20;
/// Lines of the log that clients can cause, all together.
const LINES: u32 = 10;
const LINES_EACH: Duration = Duration::from_secs(10);

/// Takes receipts beside what `inner` serves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Receipts<S> {
    inner: S,
    counter: Arc<Counter>,
}

/// Where flushes are taken.
#[derive(Debug)]
struct Counter {
    desk: Desk,
    room: Room,
    bounds: Bounds,
    log: Seldom,
}

impl<S> Receipts<S> {
    /// Takes receipts, and gives everything else to `inner`.
    #[must_use]
    pub fn beside(inner: S, desk: Desk) -> Self {
        let log = Seldom::several(LINES, LINES_EACH);
        let counter = Counter { desk, room: Room::new(UNFINISHED), bounds: Bounds::default(), log };
        Self { inner, counter: Arc::new(counter) }
    }
}

/// The answer to a flush: one message, and how it went.
#[derive(Debug, Default)]
pub struct Reply {
    message: Option<Piece>,
    trailers: Option<HeaderMap>,
}

impl Reply {
    fn taken() -> Response<Self> {
        let status = (header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        let message = Some(Piece::whole(Bytes::from_static(TAKEN)));
        let mut response = Response::new(Self { message, trailers: Some(HeaderMap::from_iter([status])) });
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

impl Body for Reply {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        let frame = self.message.take().map(Frame::data);
        Poll::Ready(frame.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }
}

impl<S, B, R> tower::Service<Request<B>> for Receipts<S>
where
    S: tower::Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: Body<Data = Piece>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<R, Reply>>;
    type Error = Infallible;
    type Future = Way<
        futures::future::Map<S::Future, Wrap<S::Response, Self::Response>>,
        BoxFuture<'static, Result<Self::Response, Infallible>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() != EXPORT || request.method() != Method::POST {
            let wrap: Wrap<S::Response, Self::Response> =
                |response| response.map(|response| response.map(Either::Left));
            return self.inner.call(request).map(wrap).left_future();
        }
        let counter = self.counter.clone();
        let taken = async move {
            let response = match take(request, &counter).await {
                Ok(()) => Reply::taken(),
                Err((refused, status)) => {
                    refused.count();
                    status.into_http()
                }
            };
            Ok(response.map(Either::Right))
        };
        taken.boxed().right_future()
    }
}

type Refusal = (Refused, Status);

async fn take<B>(request: Request<B>, counter: &Counter) -> Result<(), Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let Counter { desk, room, bounds, log } = counter;
    let Some(session) = request.extensions().get::<Session>().cloned() else {
        let fault = Status::internal("the connection has no session: this is a fault of the server");
        return Err((Refused::Session, fault));
    };
    let proxy = desk.admits(&session).map_err(of_desk)?;
    let late = |_| (Refused::Message, Status::deadline_exceeded(Unfinished::TooSlow.to_string()));
    let read = read(request.into_body(), session.caller().account(), room, bounds.message_bytes);
    let message = tokio::time::timeout(DEADLINE, read).await.map_err(late)??;
    if let Some(proxy) = proxy {
        let seen = Observation::decode(&message, *bounds).map_err(|error| {
            if let Some(suppressed) = log.event(Instant::now()) {
                tracing::info!(caller = %session.caller().origin, %error, suppressed, "statistics refused");
            }
            (Refused::Message, of_observation(&error))
        })?;
        desk.flushed(&proxy, &session, seen).map_err(of_desk)?;
    }
    super::metrics::taken();
    Ok(())
}

/// The one message of the request.
async fn read<B>(mut body: B, account: Account, room: &Room, max: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let refuse = |status| (Refused::Message, status);
    let (mut reader, mut place) = (Reader::default(), None);
    loop {
        let next = reader.next(max);
        if let Some(message) = next.map_err(|e| refuse(crate::sds::of_frame(e)))? {
            return Ok(message);
        }
        // Short ones are not counted: a request costs more than that anyway.
        if place.is_none() && reader.awaited() > crate::sds::partial::SMALL {
            let taken = room.take(account.clone(), reader.awaited());
            place = Some(
                taken.ok_or_else(|| refuse(Status::resource_exhausted(Unfinished::NoRoom.to_string())))?,
            );
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    reader.push(chunk);
                }
            }
            Some(Err(_)) => return Err(refuse(Status::cancelled("the request was reset"))),
            None => return Err(refuse(Status::invalid_argument("the request ends within a message"))),
        }
    }
}

fn of_desk(refused: Refused) -> Refusal {
    let status = match refused {
        Refused::Rate => Status::resource_exhausted("statistics come too often: once a second is enough"),
        _ => Status::permission_denied("the process that connected is not the one that reports"),
    };
    (refused, status)
}

fn of_observation(error: &observation::Error) -> Status {
    match error {
        observation::Error::TooLarge { .. } | observation::Error::TooMany { .. } => {
            Status::resource_exhausted(error.to_string())
        }
        observation::Error::Undecodable(_) | observation::Error::Deltas => {
            Status::invalid_argument(error.to_string())
        }
    }
}
