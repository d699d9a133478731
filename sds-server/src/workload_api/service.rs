//! The HTTP side: which call it is, whether it may be answered, and its one request.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either as Way, FutureExt as _, Map, ready};
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Either;
use prost::Message as _;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::node::{Node, Session};
use tonic::Status;

use super::feed::Feed;
use super::limits::{Config, MESSAGE_BYTES, UNFINISHED_BYTES};
use super::message::Message;
use super::method::{Asked, Method, Stream, asked, is_marked};
use super::metrics::RefusedFor;
use super::neighbours::{Neighbour, Neighbours, Visit};
use super::unary;
use crate::proto::workload::{
    JwtBundlesRequest, WitBundlesRequest, WitsvidRequest, X509BundlesRequest, X509svidRequest,
};
use crate::runtime::{Readiness, Wrap};
use crate::sds::fetch::{only_message, read};
use crate::sds::frame::Frame;
use crate::sds::partial::{Place, Room, Unfinished};
use crate::sds::{GRPC, Whole, is_grpc, of_end, plain};

/// From the first byte of a request to its last. A client library writes it at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the service needs, made by the composition root.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// Where tokens come from.
    pub node: Node,
    /// Until when a caller without an identity is told to come again.
    pub readiness: Readiness,
    /// What is served, and what clients may make us keep.
    pub config: Config,
    /// The most audiences of one token.
    pub jwt_audiences: usize,
}

/// The Workload API beside what `inner` serves. Takes HTTP/2 requests that carry a [`Session`] as an extension. Cheap
/// to clone.
#[derive(Clone)]
pub struct WorkloadApi<S> {
    inner: S,
    neighbours: Neighbours,
    env: Environment,
}

#[derive(Clone)]
struct Environment {
    shared: Arc<Shared>,
    streams: Room,
    unfinished: Room,
}

type Refusal = (RefusedFor, Response<()>);
/// What comes from the endpoint.
type Incoming = tonic::body::Body;

impl<S> WorkloadApi<S> {
    /// Serves it and `neighbours`, and gives everything else to `inner`.
    #[must_use]
    pub fn beside(inner: S, shared: Shared, neighbours: Neighbours) -> Self {
        let env = Environment {
            streams: Room::new(shared.config.streams),
            shared: Arc::new(shared),
            unfinished: Room::new(UNFINISHED_BYTES),
        };
        Self { inner, neighbours, env }
    }
}

impl Environment {
    /// What can be said before the request is read. The security header comes before who it is: WE-07.
    fn admit(&self, request: &Request<Incoming>, method: Method) -> Result<Admitted, Refusal> {
        if !is_grpc(request.headers().get(header::CONTENT_TYPE)) {
            return Err((RefusedFor::Method, plain(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
        }
        if request.method() != http::Method::POST {
            return Err((RefusedFor::Method, plain(StatusCode::METHOD_NOT_ALLOWED)));
        }
        if !is_marked(request.headers()) {
            let text = "the metadata `workload.spiffe.io: true` must be there, once and in this spelling";
            return Err((RefusedFor::Header, Status::invalid_argument(text).into_http()));
        }
        let session = session(request)?;
        let place = self.place(&session)?;
        let unfinished =
            self.unfinished.take(session.caller().account(), MESSAGE_BYTES).ok_or_else(|| {
                let status = Status::resource_exhausted(Unfinished::NoRoom.to_string());
                (RefusedFor::Message, status.into_http())
            })?;
        Ok(Admitted { method, session, place, unfinished })
    }

    /// A call of reflection or health. The header is not asked for: they tell nothing that a caller could not know,
    /// and the probes that there are do not write it.
    fn visit(
        &self,
        neighbour: Neighbour,
        request: Request<Incoming>,
    ) -> Result<impl Future<Output = Response<Visit>> + Send + use<>, Refusal> {
        let session = session(&request)?;
        let place = self.place(&session)?;
        Ok(neighbour.call(request, place))
    }

    fn place(&self, session: &Session) -> Result<Place, Refusal> {
        self.streams.take(session.caller().account(), 1).ok_or_else(|| {
            let text = "all streams are taken (workload_api.streams), or half of them by this caller";
            (RefusedFor::Streams, Status::resource_exhausted(text).into_http())
        })
    }
}

/// Who calls, looked at once more: a program that inherited the connection is another caller.
fn session(request: &Request<Incoming>) -> Result<Session, Refusal> {
    let Some(session) = request.extensions().get::<Session>().cloned() else {
        let status = Status::internal("the connection has no session: this is a fault of the server");
        return Err((RefusedFor::Session, status.into_http()));
    };
    // Whoever wires it to a remote door all the same: this API is for processes of this node. Workload Endpoint §2.
    if session.caller().pid().is_none() {
        let status = Status::unimplemented("the Workload API is served to processes of the node alone");
        return Err((RefusedFor::Session, status.into_http()));
    }
    match session.verify() {
        Ok(()) => Ok(session),
        Err(reason) => Err((RefusedFor::Session, of_end(reason).into_http())),
    }
}

struct Admitted {
    method: Method,
    session: Session,
    place: Place,
    unfinished: Place,
}

impl Admitted {
    async fn answer(self, body: Incoming, env: Environment) -> Response<Answer> {
        let Self { method, session, place, unfinished } = self;
        let late = |_| Err(Status::deadline_exceeded(Unfinished::TooSlow.to_string()));
        let request = tokio::time::timeout(DEADLINE, read(body, unfinished)).await.unwrap_or_else(late);
        let request = request.and_then(|bytes| only_message(bytes, MESSAGE_BYTES));
        let answered = match (method, request) {
            (_, Err(status)) => Err((RefusedFor::Message, status)),
            (Method::Stream(stream), Ok(request)) => only_of(stream, request).map(|only| {
                let feed = Feed::open(stream, only, &session, env.shared.readiness.clone(), place);
                let mut response = Response::new(Either::Left(feed));
                response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
                response
            }),
            (Method::FetchJwt, Ok(request)) => whole(unary::fetch(request, &session, &env.shared).await),
            (Method::ValidateJwt, Ok(request)) => {
                whole(unary::validate(request, &session, &env.shared).await)
            }
        };
        answered.unwrap_or_else(|(reason, status)| refused((reason, status.into_http())))
    }
}

fn whole(message: Result<Message, (RefusedFor, Status)>) -> Result<Response<Answer>, (RefusedFor, Status)> {
    message.map(|message| Whole::grpc([message.framed]).map(Either::Right))
}

/// Reads the request of a stream: which identity it is about. What a later standard adds is not ours to refuse.
fn only_of(stream: Stream, message: Bytes) -> Result<String, (RefusedFor, Status)> {
    let read = match stream {
        Stream::X509Svids => X509svidRequest::decode(message).map(|_| String::new()),
        Stream::X509Bundles => X509BundlesRequest::decode(message).map(|_| String::new()),
        Stream::JwtBundles => JwtBundlesRequest::decode(message).map(|_| String::new()),
        Stream::WitSvids => WitsvidRequest::decode(message).map(|request| request.spiffe_id),
        Stream::WitBundles => WitBundlesRequest::decode(message).map(|_| String::new()),
    };
    read.map_err(|_| (RefusedFor::Message, Status::invalid_argument("the request cannot be read")))
}

/// A stream, or an answer that is there as a whole.
pub(super) type Answer = Either<Feed, Whole>;

fn refused((reason, response): Refusal) -> Response<Answer> {
    reason.count();
    response.map(|()| Either::Right(Whole::default()))
}

impl<S, R> tower::Service<Request<Incoming>> for WorkloadApi<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<R>, Error = Infallible>,
    R: Body<Data = Frame> + Send + 'static,
{
    type Response = Response<Either<R, Either<Answer, Visit>>>;
    type Error = Infallible;
    type Future = Way<
        Map<S::Future, Wrap<S::Response, Self::Response>>,
        BoxFuture<'static, Result<Self::Response, Infallible>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let ours = |response: Response<Answer>| Ok(response.map(|body| Either::Right(Either::Left(body))));
        let method = match asked(request.uri(), &self.env.shared.config) {
            Asked::Method(method) => method,
            Asked::Unknown => {
                let text = "there is no such call, or it is not switched on";
                let status = Status::unimplemented(text).into_http();
                let response = refused((RefusedFor::Method, status));
                return ready(ours(response)).boxed().right_future();
            }
            Asked::Elsewhere => {
                let Some(neighbour) = self.neighbours.of(request.uri()) else {
                    let wrap: Wrap<S::Response, Self::Response> =
                        |response| response.map(|response| response.map(Either::Left));
                    return self.inner.call(request).map(wrap).left_future();
                };
                return match self.env.visit(neighbour, request) {
                    Ok(visit) => {
                        visit.map(|visit| Ok(visit.map(|body| Either::Right(Either::Right(body))))).boxed()
                    }
                    Err(refusal) => ready(ours(refused(refusal))).boxed(),
                }
                .right_future();
            }
        };
        match self.env.admit(&request, method) {
            Ok(admitted) => {
                let answer = admitted.answer(request.into_body(), self.env.clone());
                answer.map(ours).boxed().right_future()
            }
            Err(refusal) => ready(ours(refused(refusal))).boxed().right_future(),
        }
    }
}
