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

use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node as EnvoyNode;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use sds_server::sds::request::{Names, Node};
use sds_server::sds::status::NameState;
use sds_server::sds::{Heard, Limits, Protocol, Refusal, SdsService, Shared};
use spiffe_bridge::identity::{Memo, PrivateKey, TrustBundle, WorkloadUpdate, X509Svid};
use spiffe_bridge::node::{EndReason, SessionState};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

#[path = "xds/fixture.rs"]
mod fixture;
#[path = "xds/model.rs"]
mod model;
#[path = "xds/wire.rs"]
mod wire;

use fixture::{API, Answering, SECRET, WEB, all, change, engine, holding, names, nothing, now, say, secret};
use fixture::{Served, serve, silent, soon, svid, svid_that, update};

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
    let ack = wire::sotw(&DiscoveryRequest { version_info: "an old one".into(), ..ack });
    assert!(matches!(stream.request(ack, now()).unwrap(), Heard::Acked(_)));

    let said = say(&mut stream, &holding(&[WEB], 2));
    // An error without code or text is one.
    let nack = DiscoveryRequest {
        response_nonce: said[0].nonce().into(),
        error_detail: Some(RpcStatus::default()),
        ..sotw(&["default"])
    };
    assert!(matches!(stream.request(wire::sotw(&nack), now()).unwrap(), Heard::Nacked(_)));
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
            Some(fixture::Said::Secret { version, .. }) => {
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

#[test]
fn xd_09_a_new_request_supersedes_the_one_before() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[API]), now()).unwrap();
    stream.request(all(&[WEB]), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &holding(&[API, WEB], 1))), [WEB]);
}

#[test]
fn xd_10_a_stale_sotw_request_is_ignored_with_its_names() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[WEB]), now()).unwrap();
    let first = say(&mut stream, &holding(&[WEB, API], 1));
    stream.request(all(&[WEB]).to(first[0].nonce()), now()).unwrap();
    let held = holding(&[WEB, API], 2);
    let second = say(&mut stream, &held);
    for nonce in [first[0].nonce(), "unknown", "0000000000005a17-ffff"] {
        assert_eq!(stream.request(all(&[WEB, API]).to(nonce), now()).unwrap(), Heard::Stale);
        assert!(say(&mut stream, &held).is_empty());
    }
    // The client answers the newer response with its names of now.
    stream.request(all(&[WEB, API]).to(second[0].nonce()), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [API]);
}

#[test]
fn what_a_stale_request_drops_is_sent_again_when_it_comes_back() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[API, WEB]), now()).unwrap();
    let first = say(&mut stream, &holding(&[WEB, API], 1));
    let held = holding(&[WEB, API], 2);
    let second = say(&mut stream, &held); // crosses the next request
    assert_eq!(stream.request(all(&[WEB]).to(first[0].nonce()), now()).unwrap(), Heard::Stale);
    assert!(say(&mut stream, &held).is_empty());
    stream.request(all(&[API, WEB]).to(second[1].nonce()), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [API]);
}

#[test]
fn one_name_without_ack_does_not_hold_up_another() {
    let mut stream = engine(Protocol::Sotw);
    let held = holding(&[API, WEB], 1);
    stream.request(all(&[API]), now()).unwrap();
    let first = say(&mut stream, &held); // never answered
    stream.request(all(&[API, WEB]), now()).unwrap();
    let second = say(&mut stream, &held);
    assert_eq!(names(&second), [WEB]);
    assert!(matches!(
        stream.request(all(&[API, WEB]).to(second[0].nonce()), now()).unwrap(),
        Heard::Acked(_)
    ));
    assert!(matches!(stream.request(all(&[API, WEB]).to(first[0].nonce()), now()).unwrap(), Heard::Acked(_)));
}

#[test]
fn dropping_a_name_does_not_orphan_the_nonce_that_the_client_shows() {
    let mut stream = engine(Protocol::Sotw);
    let held = holding(&[API, WEB], 1);
    stream.request(all(&[API, WEB]), now()).unwrap();
    let said = say(&mut stream, &held);
    stream.request(all(&[API]).to(said[1].nonce()), now()).unwrap();
    stream.request(all(&[API, "ROOTCA"]).to(said[1].nonce()), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), ["ROOTCA"]);
}

#[test]
fn xd_11_delta_honours_names_beside_a_stale_nonce() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[API, WEB], 1);
    stream.request(change(&[API], &[]), now()).unwrap();
    say(&mut stream, &held);
    let heard = stream.request(change(&[WEB], &[API]).to("unknown"), now()).unwrap();
    assert_eq!(heard, Heard::Stale);
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
    assert!(names(&say(&mut stream, &holding(&[API, WEB], 2))).iter().all(|name| *name == WEB));
}

#[test]
fn xd_12_a_name_added_again_is_sent_again() {
    let mut stream = engine(Protocol::Sotw);
    let held = holding(&[API, WEB], 1);
    stream.request(all(&[API, WEB]), now()).unwrap();
    let said = say(&mut stream, &held);
    stream.request(all(&[API]).to(said[1].nonce()), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
    stream.request(all(&[API, WEB]).to(said[1].nonce()), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
}

#[test]
fn xd_13_a_name_subscribed_again_is_sent_again() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[WEB], 1);
    stream.request(change(&[WEB, "no"], &[]), now()).unwrap();
    let said = say(&mut stream, &held);
    let answer = said.iter().find(|s| matches!(s, fixture::Said::Secret { .. })).unwrap();
    stream.request(change(&[], &[]).to(answer.nonce()), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
    stream.request(change(&[WEB, "no"], &[]), now()).unwrap();
    let again = say(&mut stream, &held);
    assert_eq!((again.len(), again[0].gone()[0].as_str(), again[1].name()), (2, "no", WEB));
}

#[test]
fn xd_14_an_empty_list_after_names_ends_them_all() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[WEB]), now()).unwrap();
    let said = say(&mut stream, &holding(&[WEB], 1));
    stream.request(all(&[]).to(said[0].nonce()), now()).unwrap();
    assert!(say(&mut stream, &holding(&[WEB], 2)).is_empty());
    assert!(stream.names().is_empty());
}

#[tokio::test]
async fn xd_15_no_names_and_a_star_bring_nothing() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB, API], 1));
    for names in [&[][..], &["*"]] {
        let (_s, mut stream) = open_sotw(&served, sotw(names)).await;
        silent(&mut stream).await;
        let (_s, mut stream) = open_delta(&served, delta(names)).await;
        silent(&mut stream).await;
    }
}

#[test]
fn xd_16_a_name_also_held_by_a_star_is_answered_when_unsubscribed() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[WEB], 1);
    stream.request(change(&["*", WEB], &[]), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
    stream.request(change(&[], &[WEB]), now()).unwrap();
    assert_eq!(say(&mut stream, &held)[0].gone(), [WEB]);
    // Without the star there is nothing to answer.
    stream.request(change(&[WEB], &["*"]), now()).unwrap();
    say(&mut stream, &held);
    stream.request(change(&[], &[WEB]), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
}

#[test]
fn xd_17_phantom_unsubscriptions_are_tolerated() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[WEB], 1);
    stream.request(change(&[], &["never", WEB]), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
    stream.request(change(&[WEB], &["never"]), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
}

#[test]
fn xd_18_a_name_asked_for_twice_is_answered_once() {
    let held = holding(&[WEB], 1);
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[WEB, WEB]), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
    let mut stream = engine(Protocol::Delta);
    let long = "x".repeat(5000);
    stream.request(change(&[WEB, "no", WEB, "no", &long, &long], &[]), now()).unwrap();
    let said = say(&mut stream, &held);
    assert_eq!(said[0].gone(), [long]);
    assert_eq!((said[1].gone(), said[2].name(), said.len()), (&["no".to_owned()][..], WEB, 3));
}

#[tokio::test]
async fn xd_19_removal_and_non_existence_are_removed_resources() {
    let served = serve(Limits::default()).await;
    // Before the caller is attested nothing is said, not even this.
    let (_sender, mut stream) = open_delta(&served, delta(&[WEB, "no-such-name"])).await;
    silent(&mut stream).await;
    served.publish(&holding(&[WEB], 1));
    let removed = soon(&mut stream).await.unwrap();
    assert_eq!(removed.removed_resources, ["no-such-name"]);
    assert_eq!(soon(&mut stream).await.unwrap().resources[0].name, WEB);
    served.publish(&holding(&[API], 2));
    let removed = soon(&mut stream).await.unwrap();
    assert_eq!((removed.removed_resources, removed.resources.len()), (vec![WEB.to_owned()], 0));
    served.publish(&nothing());
    silent(&mut stream).await;
}

#[tokio::test]
async fn xd_20_a_requested_name_is_pushed_when_it_comes_to_exist() {
    let served = serve(Limits::default()).await;
    served.publish(&nothing());
    let (_s1, mut sotw_stream) = open_sotw(&served, sotw(&[WEB])).await;
    let (_s2, mut delta_stream) = open_delta(&served, delta(&[WEB])).await;
    silent(&mut sotw_stream).await;
    assert_eq!(soon(&mut delta_stream).await.unwrap().removed_resources, [WEB]);
    served.publish(&holding(&[WEB], 1));
    assert_eq!(secret(&soon(&mut sotw_stream).await.unwrap().resources[0]).name, WEB);
    assert_eq!(soon(&mut delta_stream).await.unwrap().resources[0].name, WEB);
}

#[tokio::test]
async fn xd_21_sotw_says_nothing_of_a_withdrawn_identity_and_an_ended_session_is_denied() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let (_sender, mut stream) = open_sotw(&served, sotw(&[WEB])).await;
    soon(&mut stream).await.unwrap();
    served.publish(&nothing());
    silent(&mut stream).await;
    served.sessions.publish(SessionState::Ended(EndReason::ProcessExecuted));
    let status = soon(&mut stream).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("another program"), "{status}");
}

#[tokio::test]
async fn a_drained_session_is_unavailable() {
    let served = serve(Limits::default()).await;
    let (_sender, mut stream) = open_sotw(&served, sotw(&[WEB])).await;
    served.sessions.publish(SessionState::Ended(EndReason::Draining));
    assert_eq!(soon(&mut stream).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn xd_22_a_first_sotw_request_is_answered_whatever_version_it_holds() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let (_s, mut stream) = open_sotw(&served, sotw(&[WEB, "ROOTCA"])).await;
    let version_info = soon(&mut stream).await.unwrap().version_info;
    let (_s, mut stream) =
        open_sotw(&served, DiscoveryRequest { version_info, ..sotw(&[WEB, "ROOTCA"]) }).await;
    let mut sent = Vec::new();
    for _ in 0..2 {
        sent.push(secret(&soon(&mut stream).await.unwrap().resources[0]).name);
    }
    sent.sort();
    assert_eq!(sent, ["ROOTCA", WEB]);
}

#[test]
fn xd_23_initial_versions_are_honoured_only_when_they_are_ours() {
    let held = holding(&[API, WEB], 1);
    let mut first = engine(Protocol::Delta);
    first.request(change(&[API, WEB], &[]), now()).unwrap();
    let fixture::Said::Secret { version, .. } = &say(&mut first, &held)[0] else { panic!() };

    let reconnect = |claims: &[(&str, &str)]| {
        let mut stream = engine(Protocol::Delta);
        let mut request = change(&[API, WEB, "gone"], &[]);
        let Names::Change { held, .. } = &mut request.names else { panic!() };
        *held = claims.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        stream.request(request, now()).unwrap();
        stream
    };
    let mut stream = reconnect(&[(API, version), (WEB, "1-00"), ("gone", "1-00")]);
    let said = say(&mut stream, &held);
    assert_eq!((said.len(), said[0].gone()[0].as_str(), said[1].name()), (2, "gone", WEB));
    assert_eq!(stream.held(), 1);
    assert_eq!(names(&say(&mut stream, &holding(&[API, WEB], 2))), [API, WEB], "held, and followed");
    // The right version under another name proves nothing.
    assert_eq!(say(&mut reconnect(&[(WEB, version)]), &held).len(), 3);
}

#[tokio::test]
async fn xd_24_the_first_answer_is_prompt() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let begin = Instant::now();
    let (_s, mut stream) = open_sotw(&served, sotw(&["default"])).await;
    soon(&mut stream).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[test]
fn xd_26_what_envoy_would_refuse_is_not_sent() {
    let refused = |bad: X509Svid| {
        let mut stream = engine(Protocol::Delta);
        stream.request(change(&[WEB], &[]), now()).unwrap();
        assert_eq!(say(&mut stream, &holding(&[WEB], 1)).len(), 1);
        // The good one is not taken away either (invariant 3).
        assert!(say(&mut stream, &update([Arc::new(bad)])).is_empty());
        assert!(stream.names()[0].withheld.is_some(), "and it is said why");
        // And the next good one goes out.
        assert_eq!(say(&mut stream, &holding(&[WEB], 3)).len(), 1);
        assert_eq!(stream.names()[0].withheld, None);
    };
    let (mut other, ca) = (svid(WEB, 2), svid(API, 2));
    other.chain.insert(0, ca.chain[0].clone());
    refused(other); // not leaf first
    refused(X509Svid { key: ca.key.clone(), ..svid(WEB, 2) });
    refused(X509Svid { key: PrivateKey::from_pkcs8(Vec::new().into()), ..svid(WEB, 2) });
    refused(X509Svid { chain: Vec::new(), ..svid(WEB, 2) });
    refused(X509Svid { chain: vec![Vec::new().into()], ..svid(WEB, 2) });
    refused(svid_that(WEB, 2, |params| params.not_after = rcgen::date_time_ymd(2026, 12, 31)));
    refused(svid_that(WEB, 2, |params| params.not_before = rcgen::date_time_ymd(2027, 12, 31)));
    refused(svid_that(WEB, 2, |params| params.key_usages.clear()));
    refused(X509Svid { spiffe_id: WEB.parse().unwrap(), ..svid(API, 2) }); // another's

    let empty = |roots: Vec<Vec<u8>>| TrustBundle {
        trust_domain: fixture::bundle(2).trust_domain.clone(),
        roots: roots.into_iter().map(Into::into).collect(),
        crls: Vec::new(),
        tokens: Default::default(),
        version: fixture::version(2),
        memo: Memo::default(),
    };
    for roots in [vec![], vec![b"not a certificate".to_vec()]] {
        let held = WorkloadUpdate { bundle: Some(Arc::new(empty(roots))), ..WorkloadUpdate::default() };
        let mut stream = engine(Protocol::Sotw);
        stream.request(all(&["ROOTCA"]), now()).unwrap();
        assert!(say(&mut stream, &Arc::new(held)).is_empty());
        assert_eq!(stream.names()[0].state, NameState::Withheld);
    }
}

#[test]
fn names_and_nodes_are_bounded() {
    let limits = Limits { names: 2, ..Limits::default() };
    let too_many = Err(Refusal::TooManyNames { max: 2 });
    let mut stream = sds_server::sds::Subscription::new(Protocol::Sotw, &limits, 1);
    assert_eq!(stream.request(all(&["a", "b", "c"]), now()), too_many);
    let mut stream = sds_server::sds::Subscription::new(Protocol::Delta, &limits, 1);
    assert_eq!(stream.request(change(&["a", "b"], &[]), now()), Ok(Heard::Asked));
    assert_eq!(stream.request(change(&["c"], &["a"]), now()), Ok(Heard::Asked));
    assert_eq!(stream.request(change(&["d"], &[]), now()), too_many);
    let node = Some(Node { id: "n".repeat(2000).into(), cluster: "".into() });
    assert_eq!(
        engine(Protocol::Sotw).request(sds_server::sds::Request { node, ..all(&[]) }, now()),
        Err(Refusal::NodeTooLong)
    );
}

#[tokio::test]
async fn before_it_is_served_a_client_cannot_pile_up_what_it_is_to_be_answered() {
    let served = serve(Limits::default()).await;
    let (sender, receiver) = mpsc::channel(1);
    let mut client = served.client().await;
    let first = sender.send(delta(&[WEB]));
    let (stream, _) = tokio::join!(client.delta_secrets(ReceiverStream::new(receiver)), first);
    let mut stream = stream.unwrap().into_inner();
    let large = delta(&["x".repeat(100_000).as_str()]);
    let flood = async {
        for _ in 0..200 {
            sender.send(large.clone()).await.unwrap();
        }
    };
    let flood = tokio::time::timeout(Duration::from_millis(500), flood).await;
    assert!(flood.is_err(), "20 MB were taken in and kept");
    served.publish(&holding(&[WEB], 1));
    assert_eq!(soon(&mut stream).await.unwrap().removed_resources[0].len(), 100_000);
}

#[test]
fn a_claimed_version_that_cannot_be_ours_is_not_kept() {
    let mut stream = engine(Protocol::Delta);
    let mut request = change(&[WEB], &[]);
    if let Names::Change { held, .. } = &mut request.names {
        held.push((WEB.to_owned(), "9".repeat(1 << 20)));
    }
    stream.request(request, now()).unwrap();
    assert!(format!("{stream:?}").len() < 10_000);
    assert_eq!(names(&say(&mut stream, &holding(&[WEB], 1))), [WEB]);
}

#[tokio::test]
async fn streams_and_messages_are_bounded() {
    let served = serve(Limits { streams: 1, message_bytes: 1000, ..Limits::default() }).await;
    served.publish(&holding(&[WEB], 1));
    let (sender, mut stream) = open_sotw(&served, sotw(&[WEB])).await;
    soon(&mut stream).await.unwrap();
    let (_sender2, receiver) = mpsc::channel::<DiscoveryRequest>(1);
    let refused = served.client().await.stream_secrets(ReceiverStream::new(receiver)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    sender.send(sotw(&["x".repeat(2000).as_str()])).await.unwrap();
    assert_eq!(soon(&mut stream).await.unwrap_err().code(), Code::ResourceExhausted);
    drop(stream);
    for _ in 0..1000 {
        if served.shared.streams.count() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the stream is still counted");
}

#[tokio::test]
async fn a_client_that_does_not_read_later_gets_the_newest_state() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 0));
    let (sender, receiver) = mpsc::channel(4);
    sender.send(sotw(&["default"])).await.unwrap();
    // A window of one message at most: the rest waits in the server, as state and not as a queue.
    let path = served.path.clone();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = tonic::transport::Endpoint::from_static("http://sds")
        .initial_stream_window_size(600)
        .connect_with_connector(connector)
        .await
        .unwrap();
    let mut client =
        envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient::new(
            channel,
        );
    let mut stream = client.stream_secrets(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for revision in 1..=50 {
        served.publish(&holding(&[WEB], revision));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut versions = Vec::new();
    while versions.last().is_none_or(|v: &String| !v.starts_with("50-")) {
        versions.push(soon(&mut stream).await.unwrap().version_info);
    }
    assert!(versions.len() < 10, "{versions:?}");
}

#[tokio::test]
async fn without_a_session_it_is_our_fault() {
    use tower::ServiceExt;
    let request = http::Request::post("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets")
        .header("content-type", "application/grpc")
        .body(http_body_util::Full::new(bytes::Bytes::new()))
        .unwrap();
    let response = SdsService::new(Shared::default()).oneshot(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "13");
}

#[tokio::test]
async fn what_is_not_grpc_or_compressed_is_refused_properly() {
    use http_body_util::{BodyExt, Full};
    use tower::ServiceExt;
    let (_sessions, session) =
        spiffe_bridge::node::Session::channel(spiffe_bridge::node::Caller::local(1, 1, 1, 1));
    let send = |method: &str, path: &str, content_type: &str, body: &'static [u8]| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/envoy.service.secret.v3.SecretDiscoveryService/{path}"))
            .header("content-type", content_type)
            .extension(session.clone())
            .body(Full::new(bytes::Bytes::from_static(body)))
            .unwrap();
        async move {
            let response = SdsService::new(Shared::default()).oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
            let status = parts.headers.get("grpc-status").or(trailers.get("grpc-status"));
            (parts.status.as_u16(), status.map(|s| s.to_str().unwrap().to_owned()).unwrap_or_default())
        }
    };
    let of = |http: u16, grpc: &str| (http, grpc.to_owned());
    assert_eq!(send("POST", "StreamSecrets", "application/json", b"").await.0, 415);
    assert_eq!(send("POST", "StreamSecrets", "application/grpc-web", b"").await.0, 415);
    assert_eq!(send("GET", "StreamSecrets", "application/grpc", b"").await.0, 405);
    assert_eq!(send("POST", "ListSecrets", "application/grpc", b"").await, of(200, "12"));
    assert_eq!(send("POST", "FetchSecrets", "application/grpc", b"").await, of(200, "3"));
    assert_eq!(send("POST", "StreamSecrets", "application/grpc", b"\x01\0\0\0\0").await, of(200, "12"));
    assert_eq!(send("POST", "StreamSecrets", "application/grpc+proto", b"\0\0\0").await, of(200, "3"));
    assert_eq!(send("POST", "DeltaSecrets", "application/grpc", b"\0\0\0\0\x01\xff").await, of(200, "3"));
    assert_eq!(send("POST", "DeltaSecrets", "application/grpc", b"").await, of(200, "0"));
}
