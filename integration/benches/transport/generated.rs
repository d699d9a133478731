//! As the generated service of tonic has it.

use std::pin::Pin;
use std::sync::atomic::Ordering;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use futures::{Stream, StreamExt as _};
use sds_server::sds::request::Names;
use sds_server::sds::{Heard, Limits, Protocol, Request, Response, Subscription};
use spiffe_bridge::clock::Clock;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::TYPE_URL;
use super::pushes::Push;
use super::server::ACKS;

// ---- mode 1: generated server, a task and a queue for each stream

pub(super) struct Generated(pub(super) watch::Receiver<Push>);

pub(super) type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Generated {
    type DeltaSecretsStream = BoxStream<DeltaDiscoveryResponse>;
    type StreamSecretsStream = BoxStream<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: tonic::Request<tonic::Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamSecretsStream>, Status> {
        let mut requests = request.into_inner();
        let mut pushes = self.0.clone();
        pushes.mark_changed();
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut engine = engine();
            loop {
                tokio::select! {
                    changed = pushes.changed() => if changed.is_err() { return },
                    request = requests.next() => {
                        let Some(Ok(request)) = request else { return };
                        let names = Names::All(request.resource_names);
                        let (type_url, nonce) = (request.type_url, request.response_nonce);
                        hear(&mut engine, Request { node: None, type_url, nonce, error: None, holds: false, names });
                    }
                }
                while let Some((response, push)) = say(&mut engine, &mut pushes) {
                    let Response::Secret { nonce, resource } = response else { continue };
                    let response = DiscoveryResponse {
                        version_info: resource.version_text().to_owned(),
                        resources: vec![(*push.any).clone()],
                        type_url: TYPE_URL.to_owned(),
                        nonce: nonce.to_string(),
                        ..DiscoveryResponse::default()
                    };
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(tonic::Response::new(Box::pin(stream)))
    }

    async fn delta_secrets(
        &self,
        _: tonic::Request<tonic::Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_secrets(
        &self,
        _: tonic::Request<DiscoveryRequest>,
    ) -> Result<tonic::Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// What every mode but the floor does for a stream: the product's own engine.
pub(super) fn engine() -> Subscription {
    Subscription::new(Protocol::Sotw, &Limits::default(), 7)
}

pub(super) fn hear(engine: &mut Subscription, request: Request) {
    if let Ok(Heard::Acked(_)) = engine.request(request, Clock::system().now()) {
        ACKS.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn say(engine: &mut Subscription, pushes: &mut watch::Receiver<Push>) -> Option<(Response, Push)> {
    let push = pushes.borrow_and_update();
    let response = engine.next(&push.update, Clock::system().now())?;
    Some((response, push.clone()))
}
