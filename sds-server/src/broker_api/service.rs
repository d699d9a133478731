//! The HTTP side: who asks, whether it is a broker, and the answer to its one request.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt as _};
use http::{Request, Response};
use http_body_util::Either;
use spiffe_bridge::node::{Origin, Session};
use tonic::Status;

use super::limits::Config;
use super::manner::BROKER;
use super::method::{Asked, Method, method};
use super::resolve::Workloads;
use crate::proto::broker::{DESCRIPTORS, SERVICE};
use crate::workload_api::feed::Opening;
use crate::workload_api::gate::{Entered, Gate, Incoming, Refusal};
use crate::workload_api::metrics::RefusedFor;
use crate::workload_api::neighbours::Visit;
use crate::workload_api::service::{Answer, refused, whole};
use crate::workload_api::{Neighbours, Services, Shared, unary};

/// What stands on the socket for brokers.
pub const SERVICES: Services = Services { descriptors: DESCRIPTORS, names: &["", SERVICE] };

/// The Broker API, reflection and health. Takes HTTP/2 requests that carry the [`Session`] of a broker as an extension.
/// Cheap to clone.
#[derive(Clone)]
pub struct BrokerApi {
    neighbours: Neighbours,
    env: Arc<Environment>,
}

struct Environment {
    gate: Gate,
    allow: HashSet<String>,
    shared: Shared,
    workloads: Workloads,
}

impl BrokerApi {
    /// Serves what the Workload API of `shared` would, of `workloads`, to the brokers of `config`.
    #[must_use]
    pub fn new(config: &Config, shared: Shared, workloads: Workloads, neighbours: Neighbours) -> Self {
        let gate = Gate::new(BROKER, config.streams);
        let allow = config.allow.iter().cloned().collect();
        Self { neighbours, env: Arc::new(Environment { gate, allow, shared, workloads }) }
    }
}

impl Environment {
    /// What can be said before the request is read: the security header, and then who it is. BE-03, BE-08
    fn admit(&self, request: &Request<Incoming>) -> Result<Session, Refusal> {
        self.gate.check(request)?;
        let session = self.gate.session(request)?;
        let is_broker = match &session.caller().origin {
            Origin::Broker { id, .. } => self.allow.contains(&**id),
            _ => false,
        };
        if is_broker {
            return Ok(session);
        }
        // BE-11
        let text = "the caller is no broker: name its SPIFFE ID in broker.allow, if it is to be one";
        Err((RefusedFor::NoIdentity, Status::permission_denied(text).into_http()))
    }

    async fn answer(
        &self,
        method: Method,
        broker: Session,
        entered: Entered,
        body: Incoming,
    ) -> Result<Response<Answer>, (RefusedFor, Status)> {
        let (request, place) = entered.message(body).await?;
        let (asked, reference) = method.read(request)?;
        // Its certificate alone is not enough: an entry must give its identity still.
        unary::known(&broker, BROKER).await?;
        let session = self.workloads.resolve(reference, &broker)?;
        match asked {
            Asked::Stream(method) => {
                let (only, readiness) = (String::new(), self.shared.readiness.clone());
                let (session, broker) = (&session, Some(&broker));
                let (manner, feeds) = (BROKER, &self.shared.feeds);
                let opening = Opening { manner, method, only, session, broker, readiness, feeds, place };
                Ok(opening.respond().map(Either::Left))
            }
            Asked::Jwt { audience, spiffe_id } => {
                let fetched = unary::fetch(audience, spiffe_id, &session, &self.shared, BROKER).await;
                // It took a while: the broker may have lost its right by now.
                let lost = |reason| (RefusedFor::Session, (BROKER.ended)(reason));
                broker.verify().map_err(lost)?;
                whole(fetched)
            }
        }
    }
}

impl tower::Service<Request<Incoming>> for BrokerApi {
    type Response = Response<Either<Answer, Visit>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let Self { neighbours, env } = self.clone();
        async move {
            let refusing = |refusal| refused(refusal, BROKER).map(Either::Left);
            let broker = match env.admit(&request) {
                Ok(broker) => broker,
                Err(refusal) => return Ok(refusing(refusal)),
            };
            if let Some(neighbour) = neighbours.of(request.uri()) {
                return Ok(match env.gate.place(&broker) {
                    Ok(place) => neighbour.call(request, place).await.map(Either::Right),
                    Err(refusal) => refusing(refusal),
                });
            }
            let Some(method) = method(request.uri()) else {
                let status = Status::unimplemented("there is no such call on the socket for brokers");
                return Ok(refusing((RefusedFor::Method, status.into_http())));
            };
            let entered = match env.gate.enter(&broker) {
                Ok(entered) => entered,
                Err(refusal) => return Ok(refusing(refusal)),
            };
            let answered = env.answer(method, broker, entered, request.into_body()).await;
            Ok(answered.map_or_else(
                |(reason, status)| refusing((reason, status.into_http())),
                |response| response.map(Either::Left),
            ))
        }
        .boxed()
    }
}
