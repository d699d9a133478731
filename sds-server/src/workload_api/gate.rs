//! What can be said of a call before its request is read, and the reading of that one request.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use spiffe_bridge::node::Session;
use tonic::Status;

use super::limits::{MESSAGE_BYTES, UNFINISHED_BYTES};
use super::manner::Manner;
use super::metrics::RefusedFor;
use crate::sds::fetch::{only_message, read};
use crate::sds::partial::{Place, Room, Unfinished};
use crate::sds::{is_grpc, plain};

/// From the first byte of a request to its last. A client library writes it at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a call is not answered, for the counter and for the caller.
pub(crate) type Refusal = (RefusedFor, Response<()>);
/// What comes from the endpoint.
pub(crate) type Incoming = tonic::body::Body;

/// The way in to one API. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) manner: &'static Manner,
    streams: Room,
    unfinished: Room,
}

/// What a call takes until it is over, and while its request is read.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) place: Place,
    unfinished: Place,
}

impl Gate {
    /// One for at most `streams` calls at one time.
    pub(crate) fn new(manner: &'static Manner, streams: usize) -> Self {
        Self { manner, streams: Room::new(streams), unfinished: Room::new(UNFINISHED_BYTES) }
    }

    /// Whether it is a call of gRPC that carries the security header, which comes before who it is: WE-07.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        if !is_grpc(request.headers().get(header::CONTENT_TYPE)) {
            return Err((RefusedFor::Method, plain(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
        }
        if request.method() != http::Method::POST {
            return Err((RefusedFor::Method, plain(StatusCode::METHOD_NOT_ALLOWED)));
        }
        if !is_marked(request.headers(), self.manner.header) {
            let status = Status::invalid_argument(self.manner.unmarked);
            return Err((RefusedFor::Header, status.into_http()));
        }
        Ok(())
    }

    /// Who calls, looked at once more: a program that inherited the connection is another caller.
    pub(crate) fn session<B>(&self, request: &Request<B>) -> Result<Session, Refusal> {
        let Some(session) = request.extensions().get::<Session>().cloned() else {
            let status = Status::internal("the connection has no session: this is a fault of the server");
            return Err((RefusedFor::Session, status.into_http()));
        };
        match session.verify() {
            Ok(()) => Ok(session),
            Err(reason) => Err((RefusedFor::Session, (self.manner.ended)(reason).into_http())),
        }
    }

    /// A place among the streams.
    pub(crate) fn place(&self, session: &Session) -> Result<Place, Refusal> {
        self.streams.take(session.caller().account(), 1).ok_or_else(|| {
            let status = Status::resource_exhausted(self.manner.full);
            (RefusedFor::Streams, status.into_http())
        })
    }

    /// All that a call takes.
    pub(crate) fn enter(&self, session: &Session) -> Result<Entered, Refusal> {
        let place = self.place(session)?;
        let room = self.unfinished.take(session.caller().account(), MESSAGE_BYTES);
        let unfinished = room.ok_or_else(|| {
            let status = Status::resource_exhausted(Unfinished::NoRoom.to_string());
            (RefusedFor::Message, status.into_http())
        })?;
        Ok(Entered { place, unfinished })
    }
}

impl Entered {
    /// The one message of the request.
    pub(crate) async fn message(self, body: Incoming) -> Result<(Bytes, Place), (RefusedFor, Status)> {
        let Self { place, unfinished } = self;
        let late = |_| Err(Status::deadline_exceeded(Unfinished::TooSlow.to_string()));
        let request = tokio::time::timeout(DEADLINE, read(body, unfinished)).await.unwrap_or_else(late);
        let request = request.and_then(|bytes| only_message(bytes, MESSAGE_BYTES));
        request.map(|message| (message, place)).map_err(|status| (RefusedFor::Message, status))
    }
}

/// Reads a message of the standard. What a later one adds is not ours to refuse.
pub(crate) fn decoded<M: prost::Message + Default>(message: Bytes) -> Result<M, (RefusedFor, Status)> {
    M::decode(message)
        .map_err(|_| (RefusedFor::Message, Status::invalid_argument("the request cannot be read")))
}

/// The header once, with exactly `true`. WE-07, BE-03.
fn is_marked(headers: &HeaderMap, name: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|value| value.as_bytes() == b"true") && values.next().is_none()
}
