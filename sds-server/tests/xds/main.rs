//! The xDS rows of conformance.md, one test a row. Engine rows are pure; the others go over a Unix socket with the
//! client of `envoy-types`. XD-01's FetchSecrets and XD-25 (heartbeat) come with later issues.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests"
)]

use envoy_types::pb::envoy::config::core::v3::Node as EnvoyNode;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

mod aggregated;
mod answers;
mod bounds;
mod changes;
mod fixture;
mod model;
mod subscriptions;
mod wire;

use fixture::{SECRET, Served};

fn sotw(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(EnvoyNode { id: "envoy-1".into(), cluster: "web".into(), ..EnvoyNode::default() }),
        resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
        type_url: SECRET.into(),
        ..DiscoveryRequest::default()
    }
}

fn delta(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
        type_url: SECRET.into(),
        ..DeltaDiscoveryRequest::default()
    }
}

type Sotw = (
    mpsc::Sender<DiscoveryRequest>,
    tonic::Streaming<envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse>,
);

type Delta = (
    mpsc::Sender<DeltaDiscoveryRequest>,
    tonic::Streaming<envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse>,
);

async fn open_sotw(served: &Served, first: DiscoveryRequest) -> Sotw {
    let (sender, receiver) = mpsc::channel(16);
    sender.send(first).await.unwrap();
    let stream = served.client().await.stream_secrets(ReceiverStream::new(receiver)).await.unwrap();
    (sender, stream.into_inner())
}

async fn open_delta(served: &Served, first: DeltaDiscoveryRequest) -> Delta {
    let (sender, receiver) = mpsc::channel(16);
    sender.send(first).await.unwrap();
    let stream = served.client().await.delta_secrets(ReceiverStream::new(receiver)).await.unwrap();
    (sender, stream.into_inner())
}
