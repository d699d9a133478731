//! The endpoint: the security header, the codes of errors, limits, and the services beside it.

use std::time::Duration;

use sds_server::proto::workload::{DESCRIPTORS, X509svidRequest, X509svidResponse};
use sds_server::workload_api::Config;
use spiffe_bridge::node::{Caller, EndReason, Origin, SessionState};
use tonic::Code;
use tonic::codec::Streaming;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::fixture::xds::{WEB, nothing};
use super::fixture::{Served, entitled, first, holding, next, serve, serve_to, serve_with};

async fn asked(served: &Served, header: &[&str]) -> Result<X509svidResponse, Code> {
    first(served.stream_with("FetchX509SVID", X509svidRequest {}, header).await).await
}

#[tokio::test]
async fn we_02_a_caller_of_another_host_is_not_served() {
    let origin = Origin::Remote { address: "192.0.2.1:9".parse().unwrap(), name: "proxy".into() };
    let served = serve_to(Caller { connection: 1, origin }, Config::default()).await;
    served.publish(&holding(&[WEB], &[], &[]));
    assert_eq!(asked(&served, &["true"]).await.unwrap_err(), Code::Unimplemented);
    let mut client = HealthClient::new(served.channel.clone());
    let check = client.check(HealthCheckRequest { service: String::new() }).await;
    assert_eq!(check.unwrap_err().code(), Code::Unimplemented);
}

/// The answer to a request that is written by hand, over the socket as it is: no TLS, no credentials.
async fn plain(served: &Served, content_type: &str) -> http::Response<()> {
    let stream = tokio::net::UnixStream::connect(&served.path).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let empty_message = http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]));
    let request = http::Request::post("http://api/SpiffeWorkloadAPI/FetchX509SVID")
        .header("content-type", content_type)
        .header("workload.spiffe.io", "true");
    sender.send_request(request.body(empty_message).unwrap()).await.unwrap().map(drop)
}

#[tokio::test]
async fn we_03_the_protocol_is_grpc() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &[]));
    let response = plain(&served, "application/grpc").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/grpc".parse().unwrap())
    );
    for other in ["application/json", "application/grpc-web", "text/plain"] {
        assert_eq!(plain(&served, other).await.status(), 415, "{other}");
    }
}

#[tokio::test]
async fn we_08_no_tls_is_needed() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &[]));
    let response = plain(&served, "application/grpc").await;
    assert!(response.headers().get("grpc-status").is_none(), "the stream is open");
}

#[tokio::test]
async fn we_13_the_client_need_not_authenticate() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &[]));
    // No metadata but the header, which says nothing of who it is.
    assert_eq!(asked(&served, &["true"]).await.unwrap().svids.len(), 1);
}

#[tokio::test]
async fn we_07_the_header_stands_once_and_is_true() {
    let served = serve().await;
    // Nothing is known of the caller: an answer shows that it was not waited for.
    let wrong: [&[&str]; 17] = [
        &[],
        &[""],
        &["True"],
        &["TRUE"],
        &["1"],
        &["yes"],
        &["false"],
        &["true,true"],
        &["true, true"],
        &["\"true\""],
        &["true;"],
        &[" true"],
        &["true "],
        &["tru\te"],
        &["true", "true"],
        &["true", "false"],
        &["false", "true"],
    ];
    for header in wrong {
        assert_eq!(asked(&served, header).await.unwrap_err(), Code::InvalidArgument, "{header:?}");
    }
    served.publish(&holding(&[WEB], &[], &[]));
    asked(&served, &["true"]).await.unwrap();
}

#[tokio::test]
async fn we_17_what_will_pass_is_unavailable() {
    let served = serve().await;
    served.publish(&entitled());
    assert_eq!(asked(&served, &["true"]).await.unwrap_err(), Code::Unavailable, "its SVID is not there yet");
    let guard = served.readiness.guard("entries");
    served.publish(&nothing());
    assert_eq!(asked(&served, &["true"]).await.unwrap_err(), Code::Unavailable, "the server is starting");
    drop(guard);
    served.publish(&holding(&[WEB], &[], &[]));
    let mut stream: Streaming<X509svidResponse> =
        served.stream("FetchX509SVID", X509svidRequest {}).await.unwrap();
    next(&mut stream).await.unwrap();
    served.sessions.publish(SessionState::Ended(EndReason::Draining));
    assert_eq!(next(&mut stream).await.unwrap_err(), Code::Unavailable, "the server is shutting down");
}

#[tokio::test]
async fn we_18_without_an_identity_permission_is_denied() {
    let served = serve().await;
    served.publish(&nothing());
    let opened = served.stream::<_, X509svidResponse>("FetchX509SVID", X509svidRequest {}).await;
    let status = opened.unwrap().message().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("countersign explain pid 42"), "{status}");
}

#[tokio::test]
async fn a_caller_that_is_not_known_yet_waits() {
    let served = serve().await;
    let mut stream: Streaming<X509svidResponse> =
        served.stream("FetchX509SVID", X509svidRequest {}).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(100), stream.message()).await;
    assert!(waits.is_err(), "nothing is said before it is known who asks");
    served.publish(&holding(&[WEB], &[], &[]));
    next(&mut stream).await.unwrap();
}

#[tokio::test]
async fn calls_that_are_not_there_are_unimplemented() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &[]));
    for method in ["FetchEverything", "fetchx509svid", "FetchX509SVID/", "%46etchX509SVID", ""] {
        let opened = served.stream::<_, X509svidResponse>(method, X509svidRequest {}).await;
        assert_eq!(first(opened).await.unwrap_err(), Code::Unimplemented, "{method}");
    }
}

#[tokio::test]
async fn a_user_takes_half_of_the_streams_and_gives_them_back() {
    let served = serve_with(Config { streams: 4, ..Config::default() }).await;
    served.publish(&holding(&[WEB], &[], &[]));
    let open = || served.stream::<_, X509svidResponse>("FetchX509SVID", X509svidRequest {});
    let (mut one, mut two) = (open().await.unwrap(), open().await.unwrap());
    next(&mut one).await.unwrap();
    next(&mut two).await.unwrap();
    assert_eq!(first(open().await).await.unwrap_err(), Code::ResourceExhausted);
    drop(one);
    // The end of a stream takes its way to the server.
    let again = async {
        while first(open().await).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_too_long_or_no_message_is_refused() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &[]));
    let long = sds_server::proto::workload::ValidateJwtsvidRequest {
        audience: String::new(),
        svid: "x".repeat(70_000),
    };
    let opened = served.stream::<_, X509svidResponse>("FetchX509SVID", long).await;
    assert_eq!(first(opened).await.unwrap_err(), Code::ResourceExhausted);
}

async fn reflected(served: &Served, ask: MessageRequest) -> ServerReflectionResponse {
    let mut client = ServerReflectionClient::new(served.channel.clone());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    answers.into_inner().message().await.unwrap().unwrap()
}

#[tokio::test]
async fn we_21_reflection_tells_which_services_there_are() {
    let served = serve().await;
    let response = reflected(&served, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(list)) = response.message_response else { panic!() };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"SpiffeWorkloadAPI"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let symbol = MessageRequest::FileContainingSymbol("SpiffeWorkloadAPI".to_owned());
    let Some(MessageResponse::FileDescriptorResponse(files)) =
        reflected(&served, symbol).await.message_response
    else {
        panic!()
    };
    let ours = &files.file_descriptor_proto[0];
    assert!(
        DESCRIPTORS.windows(ours.len()).any(|part| part == ours),
        "the descriptor is the one that is kept"
    );
}

#[tokio::test]
async fn health_is_told_without_the_header_and_bounded() {
    let served = serve_with(Config { streams: 2, ..Config::default() }).await;
    let mut client = HealthClient::new(served.channel.clone());
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    // Not serving: the task that says otherwise does not run here.
    let answer = client.check(ask("SpiffeWorkloadAPI")).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::NotServing);
    assert_eq!(client.check(ask("nobody")).await.unwrap_err().code(), Code::NotFound);
    let _watch = client.watch(ask("")).await.unwrap();
    assert_eq!(client.watch(ask("")).await.unwrap_err().code(), Code::ResourceExhausted);
}
