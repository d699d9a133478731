//! The aggregated service: requests of all types come on one stream, and those for secrets alone are answered.

use envoy_types::pb::envoy::config::core::v3::Node as EnvoyNode;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use sds_server::sds::request::{Names, Scope};
use sds_server::sds::{Heard, Limits, Protocol, Request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::fixture::{
    Answering as _, SECRET, Said, Served, WEB, change, engine, holding, names, now, say, secret, serve,
    silent, soon,
};
use super::{Delta, Sotw, delta, sotw};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

async fn open_sotw(served: &Served, first: DiscoveryRequest) -> Sotw {
    let (sender, receiver) = mpsc::channel(16);
    sender.send(first).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(served.channel().await);
    let stream = client.stream_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
    (sender, stream.into_inner())
}

async fn open_delta(served: &Served, first: DeltaDiscoveryRequest) -> Delta {
    let (sender, receiver) = mpsc::channel(16);
    sender.send(first).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(served.channel().await);
    let stream = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
    (sender, stream.into_inner())
}

/// One stream is open: its node, and where its one name stands.
fn state(served: &Served) -> (Option<String>, String) {
    let all = served.shared.streams.snapshot();
    let [stream] = all.as_slice() else { panic!("{all:?}") };
    let json = serde_json::to_value(&stream.names).unwrap();
    let [name] = json.as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!(name["name"], "default");
    (stream.node.clone(), name["state"].as_str().unwrap().to_owned())
}

fn refused() -> Option<RpcStatus> {
    Some(RpcStatus { code: 13, message: "a listener".into(), ..RpcStatus::default() })
}

#[tokio::test]
async fn sotw_requests_for_other_types_stay_unanswered_and_the_stream_lives() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    // As Envoy does it: first the clusters, and with them alone the node.
    let of =
        |kind: &str, names: &[&str]| DiscoveryRequest { node: None, type_url: kind.into(), ..sotw(names) };
    let (sender, mut stream) =
        open_sotw(&served, DiscoveryRequest { type_url: CLUSTER.into(), ..sotw(&[]) }).await;
    silent(&mut stream).await;
    sender.send(of(SECRET, &["default"])).await.unwrap();
    let first = soon(&mut stream).await.unwrap();
    assert_eq!((first.type_url.as_str(), secret(&first.resources[0]).name.as_str()), (SECRET, "default"));
    assert_eq!(state(&served), (Some("envoy-1".into()), "sent".into()));

    // Names of another type are no names of secrets, and its verdict is none on a secret. No type is none of ours.
    for kind in [CLUSTER, LISTENER, ""] {
        let nonce = first.nonce.clone();
        let request =
            DiscoveryRequest { response_nonce: nonce, error_detail: refused(), ..of(kind, &["ROOTCA"]) };
        sender.send(request).await.unwrap();
        silent(&mut stream).await;
        assert_eq!(state(&served).1, "sent", "{kind:?}");
    }
    sender.send(DiscoveryRequest { response_nonce: first.nonce, ..of(SECRET, &["default"]) }).await.unwrap();
    silent(&mut stream).await;
    assert_eq!(state(&served).1, "acknowledged");

    served.publish(&holding(&[WEB], 2));
    let second = soon(&mut stream).await.unwrap();
    assert_eq!(secret(&second.resources[0]).name, "default");
    assert_ne!(second.version_info, first.version_info);
    silent(&mut stream).await;
    // XD-03, whatever the type.
    let node = Some(EnvoyNode { id: "envoy-2".into(), ..EnvoyNode::default() });
    sender.send(DiscoveryRequest { node, ..of(LISTENER, &[]) }).await.unwrap();
    assert_eq!(soon(&mut stream).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn delta_requests_for_other_types_stay_unanswered_and_the_stream_lives() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let of = |kind: &str, names: &[&str]| DeltaDiscoveryRequest { type_url: kind.into(), ..delta(names) };
    let node = |id: &str| Some(EnvoyNode { id: id.into(), ..EnvoyNode::default() });
    let (sender, mut stream) =
        open_delta(&served, DeltaDiscoveryRequest { node: node("envoy-1"), ..of(CLUSTER, &["*"]) }).await;
    silent(&mut stream).await;
    sender.send(of(SECRET, &["default"])).await.unwrap();
    let first = soon(&mut stream).await.unwrap();
    assert_eq!((first.type_url.as_str(), first.resources[0].name.as_str()), (SECRET, "default"));
    assert_eq!(state(&served), (Some("envoy-1".into()), "sent".into()));

    // Nor does leaving a name of another type leave a secret.
    for kind in [CLUSTER, LISTENER, ""] {
        let request = DeltaDiscoveryRequest {
            response_nonce: first.nonce.clone(),
            error_detail: refused(),
            resource_names_unsubscribe: vec!["default".into()],
            ..of(kind, &["ROOTCA", "nothing"])
        };
        sender.send(request).await.unwrap();
        silent(&mut stream).await;
        assert_eq!(state(&served).1, "sent", "{kind:?}");
    }
    sender.send(DeltaDiscoveryRequest { response_nonce: first.nonce, ..of(SECRET, &[]) }).await.unwrap();
    silent(&mut stream).await;
    assert_eq!(state(&served).1, "acknowledged");

    served.publish(&holding(&[WEB], 2));
    let second = soon(&mut stream).await.unwrap();
    assert_eq!((second.resources[0].name.as_str(), second.removed_resources.len()), ("default", 0));
    assert_ne!(second.resources[0].version, first.resources[0].version);
    silent(&mut stream).await;
    sender.send(DeltaDiscoveryRequest { node: node("envoy-2"), ..of(LISTENER, &[]) }).await.unwrap();
    assert_eq!(soon(&mut stream).await.unwrap_err().code(), Code::InvalidArgument);
}

/// XD-23: what was held when the stream began is said with the first request for secrets, which is not the first.
#[test]
fn a_request_for_another_type_is_not_the_first_for_secrets() {
    let held = holding(&[WEB], 1);
    let claiming = |version: &str| {
        let mut request = change(&["default"], &[]);
        let Names::Change { held, .. } = &mut request.names else { panic!() };
        held.push(("default".into(), version.into()));
        request
    };
    let mut before = engine(Protocol::Delta).within(Scope::Aggregated);
    before.request(change(&["default"], &[]), now()).unwrap();
    let Said::Secret { version, .. } = &say(&mut before, &held)[0] else { panic!() };

    let mut stream = engine(Protocol::Delta).within(Scope::Aggregated);
    let cluster = Request { type_url: CLUSTER.into(), ..change(&["*"], &[]) }.to("of an earlier stream");
    assert_eq!(stream.request(cluster, now()).unwrap(), Heard::OtherType);
    stream.request(claiming(version), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
    assert_eq!(stream.held(), 1);
    assert_eq!(names(&say(&mut stream, &holding(&[WEB], 2))), ["default"]);
}
