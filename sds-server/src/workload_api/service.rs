//! The HTTP side: which call it is, whether it may be answered, and its one request.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, Either as Way, FutureExt as _, Map, ready};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Either;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::node::{Node, Origin, Session};
use tonic::Status;

use super::feed::{Feed, Opening};
use super::feeds::Feeds;
use super::gate::{Entered, Gate, Incoming, Refusal, decoded};
use super::limits::Config;
use super::manner::{Manner, WORKLOAD};
use super::message::Message;
use super::method::{Asked, Method, Stream, asked};
use super::metrics::RefusedFor;
use super::neighbours::{Neighbour, Neighbours, Visit};
use super::unary;
use crate::proto::workload::{
    JwtBundlesRequest, JwtsvidRequest, WitBundlesRequest, WitsvidRequest, X509BundlesRequest, X509svidRequest,
};
use crate::runtime::{Readiness, Wrap};
use crate::sds::Whole;
use crate::sds::frame::Frame;

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
    /// Where open streams are listed.
    pub feeds: Feeds,
}

/// The Workload API beside what `inner` serves. Takes HTTP/2 requests that carry a [`Session`] as an extension. Cheap
/// to clone.
#[derive(Clone)]
pub struct WorkloadApi<S> {
    inner: S,
    neighbours: Neighbours,
    env: Arc<Environment>,
}

struct Environment {
    shared: Shared,
    gate: Gate,
}

impl<S> WorkloadApi<S> {
    /// Serves it and `neighbours`, and gives everything else to `inner`.
    #[must_use]
    pub fn beside(inner: S, shared: Shared, neighbours: Neighbours) -> Self {
        let gate = Gate::new(WORKLOAD, shared.config.streams);
        let env = Arc::new(Environment { shared, gate });
        Self { inner, neighbours, env }
    }
}

impl Environment {
    /// What can be said before the request is read. The security header comes before who it is: WE-07.
    fn admit(&self, request: &Request<Incoming>, method: Method) -> Result<Admitted, Refusal> {
        self.gate.check(request)?;
        let session = self.session(request)?;
        let entered = self.gate.enter(&session)?;
        Ok(Admitted { method, session, entered })
    }

    /// A call of reflection or health. The header is not asked for: they tell nothing that a caller could not know,
    /// and the probes that there are do not write it.
    fn visit(
        &self,
        neighbour: Neighbour,
        request: Request<Incoming>,
    ) -> Result<impl Future<Output = Response<Visit>> + Send + use<>, Refusal> {
        let place = self.gate.place(&self.session(&request)?)?;
        Ok(neighbour.call(request, place))
    }

    fn session(&self, request: &Request<Incoming>) -> Result<Session, Refusal> {
        let session = self.gate.session(request)?;
        // Whoever wires it to another door all the same: this API is for processes of this node. Workload Endpoint §2.
        if matches!(session.caller().origin, Origin::Local { .. }) {
            return Ok(session);
        }
        let status = Status::unimplemented("the Workload API is served to processes of the node alone");
        Err((RefusedFor::Session, status.into_http()))
    }
}

struct Admitted {
    method: Method,
    session: Session,
    entered: Entered,
}

impl Admitted {
    async fn answer(self, body: Incoming, shared: &Shared) -> Result<Response<Answer>, (RefusedFor, Status)> {
        let Self { method, session, entered } = self;
        let (request, place) = entered.message(body).await?;
        let method = match method {
            Method::Stream(method) => method,
            Method::FetchJwt => {
                let JwtsvidRequest { audience, spiffe_id } = decoded(request)?;
                return whole(unary::fetch(audience, spiffe_id, &session, shared, WORKLOAD).await);
            }
            Method::ValidateJwt => return whole(unary::validate(request, &session, shared).await),
        };
        let (only, session, readiness) = (only_of(method, request)?, &session, shared.readiness.clone());
        let (broker, feeds) = (None, &shared.feeds);
        let opening = Opening { manner: WORKLOAD, method, only, session, broker, readiness, feeds, place };
        Ok(opening.respond().map(Either::Left))
    }
}

pub(crate) fn whole(
    message: Result<Message, (RefusedFor, Status)>,
) -> Result<Response<Answer>, (RefusedFor, Status)> {
    message.map(|message| Whole::grpc([message.framed]).map(Either::Right))
}

/// Reads the request of a stream: which identity it is about.
fn only_of(stream: Stream, message: Bytes) -> Result<String, (RefusedFor, Status)> {
    let all = String::new();
    match stream {
        Stream::X509Svids => decoded::<X509svidRequest>(message).map(|_| all),
        Stream::X509Bundles => decoded::<X509BundlesRequest>(message).map(|_| all),
        Stream::JwtBundles => decoded::<JwtBundlesRequest>(message).map(|_| all),
        Stream::WitSvids => decoded::<WitsvidRequest>(message).map(|request| request.spiffe_id),
        Stream::WitBundles => decoded::<WitBundlesRequest>(message).map(|_| all),
    }
}

/// A stream, or an answer that is there as a whole.
pub(crate) type Answer = Either<Feed, Whole>;

/// Counts a refusal and tells it.
pub(crate) fn refused((reason, response): Refusal, manner: &Manner) -> Response<Answer> {
    reason.count(manner);
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
                let response = refused((RefusedFor::Method, status), WORKLOAD);
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
                    Err(refusal) => ready(ours(refused(refusal, WORKLOAD))).boxed(),
                }
                .right_future();
            }
        };
        match self.env.admit(&request, method) {
            Ok(admitted) => {
                let env = self.env.clone();
                async move {
                    let answered = admitted.answer(request.into_body(), &env.shared).await;
                    ours(
                        answered.unwrap_or_else(|(reason, status)| {
                            refused((reason, status.into_http()), WORKLOAD)
                        }),
                    )
                }
                .boxed()
                .right_future()
            }
            Err(refusal) => ready(ours(refused(refusal, WORKLOAD))).boxed().right_future(),
        }
    }
}
