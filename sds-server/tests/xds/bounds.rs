//! What a client cannot have the server do.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use sds_server::sds::request::{Names, Node};
use sds_server::sds::status::NameState;
use sds_server::sds::{Heard, Limits, Protocol, Refusal, SdsService, Shared};
use spiffe_bridge::identity::{Memo, PrivateKey, TrustBundle, WorkloadUpdate, X509Svid};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::fixture::{
    API, WEB, all, change, engine, holding, names, now, say, serve, soon, svid, svid_that, update,
};
use super::{delta, open_sotw, sotw};

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
        trust_domain: super::fixture::bundle(2).trust_domain.clone(),
        roots: roots.into_iter().map(Into::into).collect(),
        crls: Vec::new(),
        tokens: Default::default(),
        version: super::fixture::version(2),
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
