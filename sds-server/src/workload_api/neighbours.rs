//! The services that stand beside an API: which services there are (reflection), and whether they serve (health).
//! Workload Endpoint §7, Broker Endpoint §7.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use http_body::Frame as BodyFrame;
use tonic::body::Body;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use tonic_reflection::server::Builder;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use crate::proto::workload;
use crate::runtime::{Drain, Readiness};
use crate::sds::frame::Frame;
use crate::sds::partial::Place;

/// What is told of a door.
#[derive(Debug, Clone, Copy)]
pub struct Services {
    /// What reflection shows beside health: an encoded `FileDescriptorSet`.
    pub descriptors: &'static [u8],
    /// Whose health may be asked after: all of the server, and each service by its name.
    pub names: &'static [&'static str],
}

/// Those of the API socket.
pub const LOCAL: Services = Services {
    descriptors: workload::DESCRIPTORS,
    names: &[
        "",
        workload::SERVICE,
        "envoy.service.secret.v3.SecretDiscoveryService",
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
    ],
};

type Served = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Reflection (both of its versions) and health. Cheap to clone.
#[derive(Clone)]
pub struct Neighbours(Arc<[(&'static str, Served); 3]>);

/// Tells whether the services serve; a task of its own.
pub struct Health(HealthReporter, &'static [&'static str]);

impl Neighbours {
    /// Those beside `services`, and the task that knows how they are.
    ///
    /// # Errors
    /// Our own descriptors cannot be read: a fault of the build.
    pub async fn new(services: Services) -> Result<(Self, Health), tonic_reflection::server::Error> {
        let (reporter, health) = health_reporter();
        let health_of = Health(reporter, services.names);
        health_of.set(ServingStatus::NotServing).await;
        let builder = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(services.descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let neighbours = [
            ("/grpc.reflection.v1.ServerReflection/", Served::new(builder().build_v1()?)),
            ("/grpc.reflection.v1alpha.ServerReflection/", Served::new(builder().build_v1alpha()?)),
            ("/grpc.health.v1.Health/", Served::new(health)),
        ];
        Ok((Self(Arc::new(neighbours)), health_of))
    }

    /// The one that `uri` is of.
    pub(crate) fn of(&self, uri: &Uri) -> Option<Neighbour> {
        let found = self.0.iter().find(|(prefix, _)| uri.path().starts_with(prefix));
        found.map(|(_, service)| Neighbour(service.clone()))
    }
}

impl Health {
    async fn set(&self, status: ServingStatus) {
        for service in self.1 {
            self.0.set_service_status(*service, status).await;
        }
    }

    /// Serving from when all is ready until the drain begins.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self, readiness: Readiness, drain: Drain) -> Result<(), Infallible> {
        tokio::select! {
            () = drain.begun() => {}
            () = readiness.ready() => {
                self.set(ServingStatus::Serving).await;
                drain.begun().await;
            }
        }
        self.set(ServingStatus::NotServing).await;
        Ok(())
    }
}

/// One of them, for one call.
pub(crate) struct Neighbour(Served);

impl Neighbour {
    pub(crate) async fn call(self, request: Request<Body>, place: Place) -> Response<Visit> {
        let answered = self.0.oneshot(request).await.unwrap_or_else(|never| match never {});
        answered.map(|body| Visit { body, _place: place })
    }
}

/// Its answer, which takes a place among the streams.
#[derive(Debug)]
pub struct Visit {
    body: Body,
    _place: Place,
}

impl http_body::Body for Visit {
    type Data = Frame;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Frame>, tonic::Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(Frame::whole))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
