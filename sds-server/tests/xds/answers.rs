//! What is answered, and under which version and nonce.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node as EnvoyNode;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use sds_server::sds::{Heard, Limits, Protocol};
use spiffe_bridge::identity::{Memo, WorkloadUpdate, X509Svid};
use tonic::Code;

use super::fixture::{
    Answering as _, SECRET, WEB, all, change, engine, holding, now, say, secret, serve, silent, soon, svid,
    update,
};
use super::{delta, open_delta, open_sotw, sotw};

#[tokio::test]
async fn xd_01_sotw_and_delta_are_served() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));

    let (_sender, mut stream) = open_sotw(&served, sotw(&["default"])).await;
    let response = soon(&mut stream).await.unwrap();
    assert_eq!((response.resources.len(), response.type_url.as_str()), (1, SECRET));
    let sotw_secret = secret(&response.resources[0]);
    assert_eq!(sotw_secret.name, "default");
    assert!(matches!(sotw_secret.r#type, Some(Type::TlsCertificate(_))));

    let (_sender, mut stream) = open_delta(&served, delta(&["ROOTCA"])).await;
    let response = soon(&mut stream).await.unwrap();
    let resource = &response.resources[0];
    assert_eq!((resource.name.as_str(), response.resources.len()), ("ROOTCA", 1));
    let Some(Type::ValidationContext(context)) = secret(resource.resource.as_ref().unwrap()).r#type else {
        panic!("not a bundle");
    };
    assert!(context.trusted_ca.is_some() && context.match_typed_subject_alt_names.is_empty());

    // One question of several names: what there is, once.
    let names = ["default", "nothing", "ROOTCA", "default"];
    let fetched = served.client().await.fetch_secrets(sotw(&names)).await.unwrap().into_inner();
    let found: Vec<String> = fetched.resources.iter().map(|any| secret(any).name).collect();
    assert_eq!(found, ["ROOTCA", "default"]);
    let status = served.client().await.fetch_secrets(sotw(&["nothing"])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn xd_02_another_type_url_is_refused() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let (_s, mut stream) =
        open_sotw(&served, DiscoveryRequest { type_url: cluster.clone(), ..sotw(&["default"]) }).await;
    assert_eq!(soon(&mut stream).await.unwrap_err().code(), Code::InvalidArgument);
    let (_s, mut stream) =
        open_delta(&served, DeltaDiscoveryRequest { type_url: cluster, ..delta(&["default"]) }).await;
    assert_eq!(soon(&mut stream).await.unwrap_err().code(), Code::InvalidArgument);
    // The service implies it.
    let implied = DiscoveryRequest { type_url: String::new(), ..sotw(&["default"]) };
    let (_s, mut stream) = open_sotw(&served, implied).await;
    assert!(soon(&mut stream).await.is_ok());
}

#[tokio::test]
async fn xd_03_the_node_is_that_of_the_first_request() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let (sender, mut stream) = open_sotw(&served, sotw(&["default"])).await;
    soon(&mut stream).await.unwrap();
    let later = DiscoveryRequest { node: None, ..sotw(&["default", "ROOTCA"]) };
    sender.send(later).await.unwrap();
    soon(&mut stream).await.unwrap();
    let status = &served.shared.streams.snapshot()[0];
    assert_eq!((status.node.as_deref(), status.cluster.as_deref()), (Some("envoy-1"), Some("web")));
    assert_eq!((status.connection, status.pid, status.uid), (7, Some(42), Some(1001)));

    let node = Some(EnvoyNode { id: "envoy-2".into(), ..EnvoyNode::default() });
    sender.send(DiscoveryRequest { node, ..sotw(&["default"]) }).await.unwrap();
    let status = soon(&mut stream).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("node"), "{status}");
}

#[test]
fn xd_04_every_nonce_is_fresh_and_dies_with_its_stream() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&["default", "ROOTCA", WEB]), now()).unwrap();
    let mut nonces = Vec::new();
    for revision in 1..5 {
        nonces.extend(say(&mut stream, &holding(&[WEB], revision)).iter().map(|s| s.nonce().to_owned()));
    }
    let count = nonces.len();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!((nonces.len(), count), (count, 3 * 4)); // each update has its own bundle too

    let mut next = sds_server::sds::Subscription::new(Protocol::Delta, &Limits::default(), 0xbeef);
    next.request(change(&["default"], &[]), now()).unwrap();
    assert_eq!(say(&mut next, &holding(&[WEB], 1)).len(), 1);
    let heard = next.request(change(&[], &[]).to(&nonces[0]), now()).unwrap();
    assert_eq!(heard, Heard::Stale);
}

#[test]
fn xd_05_nack_is_error_detail_present() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&["default"]), now()).unwrap();
    let said = say(&mut stream, &holding(&[WEB], 1));
    // Decoded from the wire: an old version_info beside an ACK changes nothing.
    let ack = DiscoveryRequest { response_nonce: said[0].nonce().into(), ..sotw(&["default"]) };
    let ack = super::wire::sotw(&DiscoveryRequest { version_info: "an old one".into(), ..ack });
    assert!(matches!(stream.request(ack, now()).unwrap(), Heard::Acked(_)));

    let said = say(&mut stream, &holding(&[WEB], 2));
    // An error without code or text is one.
    let nack = DiscoveryRequest {
        response_nonce: said[0].nonce().into(),
        error_detail: Some(RpcStatus::default()),
        ..sotw(&["default"])
    };
    assert!(matches!(stream.request(super::wire::sotw(&nack), now()).unwrap(), Heard::Nacked(_)));
    // The first verdict stands: Envoy shows the nonce again, without the error, when its names change.
    let again = all(&["default", "ROOTCA"]).to(said[0].nonce());
    assert_eq!(stream.request(again, now()).unwrap(), Heard::Repeated);
    let json = serde_json::to_value(stream.names()).unwrap();
    assert_eq!(json[1]["name"], "default");
    assert_eq!(json[1]["state"], "refused");
}

#[tokio::test]
async fn xd_06_a_nack_brings_no_resend_until_the_content_changes() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let (sender, mut stream) = open_sotw(&served, sotw(&["default"])).await;
    let first = soon(&mut stream).await.unwrap();
    let error = RpcStatus {
        code: 13,
        message: "Proto constraint validation failed: -----BEGIN PRIVATE KEY-----\nMIGH".into(),
        ..RpcStatus::default()
    };
    let nack =
        DiscoveryRequest { response_nonce: first.nonce, error_detail: Some(error), ..sotw(&["default"]) };
    sender.send(nack).await.unwrap();
    silent(&mut stream).await;
    let json = serde_json::to_string(&served.shared.streams.snapshot()).unwrap();
    assert!(json.contains(r#""state":"refused""#) && json.contains(r#""kind":"constraint""#), "{json}");
    assert!(!json.contains("MIGH"), "{json}");
    served.publish(&holding(&[WEB], 2));
    assert_ne!(soon(&mut stream).await.unwrap().version_info, first.version_info);
}

#[test]
fn a_refused_secret_is_not_sent_for_a_new_subscription_of_the_name() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[WEB], 1);
    stream.request(change(&["default"], &[]), now()).unwrap();
    let said = say(&mut stream, &held);
    stream.request(change(&["default"], &[]).to(said[0].nonce()).refusing(), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
    assert_eq!(say(&mut stream, &holding(&[WEB], 2)).len(), 1);
}

#[test]
fn xd_07_a_version_is_the_contents_and_survives_a_restart() {
    let fresh = |revision| {
        let mut stream = engine(Protocol::Sotw);
        stream.request(all(&["default"]), now()).unwrap();
        move |held: &Arc<WorkloadUpdate>| match say(&mut stream, held).pop() {
            Some(super::fixture::Said::Secret { version, .. }) => {
                assert!(version.starts_with(&format!("{revision}-")), "{version}");
                version
            }
            other => panic!("{other:?}"),
        }
    };
    let one = svid(WEB, 41);
    let twin =
        X509Svid { memo: Memo::default(), chain: one.chain.clone(), key: one.key.clone(), ..svid(WEB, 41) };
    let first = fresh(41)(&update([Arc::new(one)]));
    assert_eq!(first, fresh(41)(&update([Arc::new(twin)])), "the same content, encoded by another process");
    assert_ne!(first, fresh(41)(&holding(&[WEB], 41)), "other content");
    fresh(42)(&holding(&[WEB], 42));
}

#[tokio::test]
async fn xd_08_nothing_is_sent_when_nothing_changed() {
    let served = serve(Limits::default()).await;
    let web = Arc::new(svid(WEB, 1));
    served.publish(&update([web.clone()]));
    let (sender, mut stream) = open_sotw(&served, sotw(&["default"])).await;
    let first = soon(&mut stream).await.unwrap();
    let ack = DiscoveryRequest { response_nonce: first.nonce, ..sotw(&["default"]) };
    sender.send(ack).await.unwrap();
    silent(&mut stream).await;
    served.publish(&update([web, Arc::new(svid("spiffe://example.org/zzz", 2))])); // another's change
    silent(&mut stream).await;
    let json = serde_json::to_value(served.shared.streams.snapshot()).unwrap();
    assert_eq!(json[0]["names"][0]["state"], "acknowledged");
}
