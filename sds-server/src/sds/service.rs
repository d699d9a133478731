//! The HTTP side: which request is which method, and what is not served.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Either;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::node::{Node, Session};
use tonic::Status;

use super::fetch::{self, Around, Form, Whole};
use super::limits::Limits;
use super::metrics::{Event, Metrics, RefusedFor};
use super::partial::{Place, Room, Unfinished};
use super::request::{Protocol, Scope};
use super::status::StreamRegistry;
use super::stream::{Environment, Frames};
use super::subscription::Subscription;
use crate::runtime::{BoxError, Seldom};

/// Lines of the log that clients cause by what they say: a fleet that refuses something is seen, a client that does so
/// for ever does not fill the disk.
const LINES: u32 = 100;
const LINES_EACH: Duration = Duration::from_secs(10);

/// What the service needs, made by the composition root.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// Where streams are entered.
    pub streams: StreamRegistry,
    /// What a client may make us keep.
    pub limits: Limits,
    /// Who makes tokens that are fetched without a stream; without it there are none.
    pub tokens: Option<Node>,
}

/// `envoy.service.secret.v3.SecretDiscoveryService`, and secrets by
/// `envoy.service.discovery.v3.AggregatedDiscoveryService`. Takes HTTP/2 requests that carry a [`Session`] as an
/// extension, from hyper. Cheap to clone.
#[derive(Clone)]
pub struct SdsService(Arc<Parts>);

/// Of all clones: each request has one.
struct Parts {
    env: Arc<Environment>,
    streams: StreamRegistry,
    tokens: Option<Node>,
    /// Nonces of another run of the server are not taken for ours. XD-04.
    salt: u64,
}

impl SdsService {
    /// The service. A metrics recorder is to be installed before, or nothing is counted.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let salt = started.as_secs() << 32 | u64::from(started.subsec_nanos());
        let Limits { unfinished_bytes, name_bytes, .. } = shared.limits;
        let env = Arc::new(Environment {
            clock: shared.clock,
            limits: shared.limits,
            metrics: Metrics::new(),
            room: Room::new(unfinished_bytes),
            names: Room::new(name_bytes),
            log: Seldom::several(LINES, LINES_EACH),
        });
        Self(Arc::new(Parts { env, streams: shared.streams, tokens: shared.tokens, salt }))
    }
}

impl Parts {
    fn answer<B>(&self, request: Request<B>) -> Response<Frames<B>> {
        self.open(request).unwrap_or_else(|(reason, response)| {
            self.env.metrics.record(Event::Refused(reason));
            response.map(|()| Frames::default())
        })
    }

    /// Who asks, and room for the question: as much as it says that it is long, else as the longest.
    fn room_for<B>(&self, request: &Request<B>) -> Result<(Session, Place), (RefusedFor, Response<()>)> {
        let session = verified(request)?;
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let bytes = length.unwrap_or(usize::MAX).min(self.env.limits.message_bytes);
        let place = self.env.room.take(session.caller().account(), bytes).ok_or_else(|| {
            let status = Status::resource_exhausted(Unfinished::NoRoom.to_string());
            (RefusedFor::Message, status.into_http())
        })?;
        Ok((session, place))
    }

    fn open<B>(&self, request: Request<B>) -> Result<Response<Frames<B>>, (RefusedFor, Response<()>)> {
        if !is_grpc(request.headers().get(header::CONTENT_TYPE)) {
            // gRPC over HTTP2: "servers should respond with HTTP status of 415".
            return Err((RefusedFor::Method, plain(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
        }
        if request.method() != Method::POST {
            return Err((RefusedFor::Method, plain(StatusCode::METHOD_NOT_ALLOWED)));
        }
        let (scope, protocol) = match method_of(request.uri()) {
            "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets" => {
                (Scope::Secrets, Protocol::Sotw)
            }
            "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets" => {
                (Scope::Secrets, Protocol::Delta)
            }
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources" => {
                (Scope::Aggregated, Protocol::Sotw)
            }
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources" => {
                (Scope::Aggregated, Protocol::Delta)
            }
            _ => {
                let served = "StreamSecrets, DeltaSecrets and FetchSecrets are served, and secrets by ADS";
                return Err((RefusedFor::Method, Status::unimplemented(served).into_http()));
            }
        };
        let session = session(&request)?;
        let limits = &self.env.limits;
        let engine =
            |id: u64| Subscription::new(protocol, limits, self.salt.wrapping_add(id << 8)).within(scope);
        let now = self.env.clock.now();
        let Some(stream) = self.streams.open(limits.streams, &session, now, engine) else {
            let text =
                format!("{} streams, or half of them by this caller, are open already", limits.streams);
            return Err((RefusedFor::Streams, Status::resource_exhausted(text).into_http()));
        };
        let body = Frames::open(request.into_body(), &session, stream, self.env.clone());
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
        Ok(response)
    }
}

/// Who asks. For a stream, which looks at the process again with the first name that it is asked for.
fn session<B>(request: &Request<B>) -> Result<Session, (RefusedFor, Response<()>)> {
    request.extensions().get::<Session>().cloned().ok_or_else(|| {
        let status = Status::internal("the connection has no session: this is a fault of the server");
        (RefusedFor::Session, status.into_http())
    })
}

/// Who asks, looked at once more: a program that inherited the connection is another caller.
fn verified<B>(request: &Request<B>) -> Result<Session, (RefusedFor, Response<()>)> {
    let session = session(request)?;
    match session.verify() {
        Ok(()) => Ok(session),
        Err(reason) => Err((RefusedFor::Session, Status::permission_denied(reason.to_string()).into_http())),
    }
}

/// The whole of what is asked for, byte for byte: a path with a query is no method's.
fn method_of(uri: &http::Uri) -> &str {
    uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str)
}

/// Whether it asks for one answer, and in which form.
fn fetch_of<B>(request: &Request<B>) -> Option<Form> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    match (request.method(), method_of(request.uri())) {
        (&Method::POST, "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets") => {
            is_grpc(content_type).then_some(Form::Grpc)
        }
        (&Method::POST, "/v3/discovery:secrets") => Some(Form::Rest),
        _ => None,
    }
}

pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// `application/grpc`, perhaps with `+proto` or parameters; not grpc-web, whose frames differ.
pub(crate) fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let rest = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+proto") || rest.starts_with(b";"))
}

pub(crate) fn plain(code: StatusCode) -> Response<()> {
    let mut response = Status::internal("this is a gRPC service: POST application/grpc").into_http();
    *response.status_mut() = code;
    response
}

impl<B> tower::Service<Request<B>> for SdsService
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<Frames<B>, Whole>>;
    type Error = Infallible;
    /// A stream is open at once; what is fetched waits for its answer.
    type Future = futures::future::Either<
        Ready<Result<Self::Response, Infallible>>,
        BoxFuture<'static, Result<Self::Response, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(form) = fetch_of(&request) else {
            return ready(Ok(self.0.answer(request).map(Either::Left))).left_future();
        };
        let parts = &*self.0;
        match parts.room_for(&request) {
            Ok((session, place)) => {
                let around = Around {
                    limits: parts.env.limits,
                    proxies: parts.streams.proxies().clone(),
                    tokens: parts.tokens.clone(),
                    now: parts.env.clock.now(),
                };
                let answer = fetch::answer(form, request.into_body(), session, place, around);
                answer.map(|response| Ok(response.map(Either::Right))).boxed().right_future()
            }
            Err((reason, response)) => {
                parts.env.metrics.record(Event::Refused(reason));
                ready(Ok(response.map(|()| Either::Right(Whole::default())))).left_future()
            }
        }
    }
}
