//! The Broker Endpoint: who comes in, and how it is told that it does not.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use integration::poll;
use integration::remote::{Door, client, connect};
use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::stranger::{self, Credential, RogueCa};
use sds_server::proto::broker::{DESCRIPTORS, SubscribeToX509svidRequest, SubscribeToX509svidResponse};
use tokio::net::UnixStream;
use tonic::{Code, Request};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::fixture::{
    BROKER, Node, SOON, WEB, by_pid, followed, ids, mode, next, own, shake, stream_with, svids,
};

#[tokio::test(flavor = "multi_thread")]
async fn be_01_the_socket_is_for_its_user_and_group_alone() {
    let node = Node::start().await;
    assert_eq!(mode(&node.socket), 0o660);
    assert_eq!(mode(&node.server.socket()), 0o666, "where workloads call it is everybody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn be_02_the_protocol_is_grpc() {
    let node = Node::start().await;
    let workload = node.workload();
    assert_eq!(ids(&svids(&node.broker().await, workload.id()).await.unwrap()), [WEB]);
    let svid = node.svid(BROKER).await;
    for (content_type, status) in [("application/grpc", 200), ("application/json", 415)] {
        let stream = UnixStream::connect(&node.socket).await.unwrap();
        let stream = shake(stream, client(Some(&svid)).unwrap()).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("https://broker/spiffe.broker.API/SubscribeToX509SVID")
            .header("content-type", content_type)
            .header("broker.spiffe.io", "true");
        let body = Full::new(Bytes::from_static(&[0; 5]));
        let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{content_type}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn be_03_the_header_stands_once_and_is_true() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let wrong: [&[&str]; 9] = [
        &[],
        &[""],
        &["True"],
        &["1"],
        &["false"],
        &["true,true"],
        &[" true"],
        &["true", "true"],
        &["true", "false"],
    ];
    let ask = async |header: &[&str]| {
        let question = SubscribeToX509svidRequest { reference: by_pid(workload.id()) };
        stream_with::<_, SubscribeToX509svidResponse>(&channel, "SubscribeToX509SVID", question, header).await
    };
    for header in wrong {
        assert_eq!(ask(header).await.unwrap_err().code(), Code::InvalidArgument, "{header:?}");
    }
    next(&mut ask(&["true"]).await.unwrap()).await.unwrap();
    // Reflection is part of the endpoint, and asks for it too.
    let request = Request::new(tokio_stream::once(ServerReflectionRequest::default()));
    let refused = ServerReflectionClient::new(channel).server_reflection_info(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

/// Whether a connection with this configuration is cut off before anything is answered.
async fn is_cut_off(node: &Node, config: rustls::ClientConfig) -> bool {
    let stream = UnixStream::connect(&node.socket).await.unwrap();
    let Ok(stream) = shake(stream, config).await else { return true };
    answers(stream).await.is_err()
}

/// What HTTP/2 over `stream` answers to a call.
async fn answers<S>(stream: S) -> Result<u16, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::post("https://broker/spiffe.broker.API/SubscribeToX509SVID")
        .header("content-type", "application/grpc");
    let answered = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await;
    connection.abort();
    answered.map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn be_07_both_sides_show_svids_and_nothing_is_served_in_clear() {
    let node = Node::start().await;
    let svid = node.svid(BROKER).await;
    let stream = UnixStream::connect(&node.socket).await.unwrap();
    let stream = shake(stream, client(Some(&svid)).unwrap()).await.unwrap();
    let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let facts = spiffe_bridge::x509::inspect::leaf(shown).unwrap();
    assert_eq!(facts.uris, ["spiffe://example.org/countersign/server"]);
    assert_eq!(answers(stream).await.unwrap(), 200, "and who shows its own is answered");

    assert!(is_cut_off(&node, client(None).unwrap()).await, "without a certificate");
    let rogue = RogueCa::new("example.org").unwrap().svid(BROKER).unwrap();
    assert!(is_cut_off(&node, client(Some(&rogue)).unwrap()).await, "of another CA");
    let stolen = Credential { chain: svid.chain.clone(), key: rogue.key.clone_key() };
    assert!(client(Some(&stolen)).is_err() || is_cut_off(&node, client(Some(&stolen)).unwrap()).await);
    let mut no_h2 = stranger::client(Some(&svid)).unwrap();
    no_h2.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(is_cut_off(&node, no_h2).await, "without HTTP/2");
    assert!(is_cut_off(&node, tls12(&svid)).await, "by TLS 1.2");
    let plain = UnixStream::connect(&node.socket).await.unwrap();
    assert!(answers(plain).await.is_err(), "in clear");
}

/// How a client shakes hands that knows TLS 1.2 and no later one.
fn tls12(held: &Credential) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(held.chain.clone(), held.key.clone_key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn be_08_who_is_not_in_the_configuration_is_refused_every_call() {
    let node = Node::start().await;
    // The very same process, by another of its SVIDs.
    let other = "spiffe://example.org/ingress";
    node.give("other", other, &own()).await;
    let (channel, workload) = (node.channel(&node.svid(other).await).await, node.workload());
    for method in
        ["SubscribeToX509SVID", "SubscribeToX509Bundles", "SubscribeToJWTBundles", "FetchJWTSVID", "Other"]
    {
        let question = SubscribeToX509svidRequest { reference: by_pid(workload.id()) };
        let opened =
            stream_with::<_, SubscribeToX509svidResponse>(&channel, method, question, &["true"]).await;
        let status = opened.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{method}");
        assert!(status.message().contains("broker.allow"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn be_11_while_the_server_goes_and_comes_it_is_unavailable_and_not_denied() {
    let mut node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let stranger = node.run(Command::new("tail"), &["-f", "/dev/null"]);
    assert_eq!(svids(&channel, stranger.id()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut stream = followed(&channel, workload.id()).await;
    let (stopped, ended) = tokio::join!(node.server.stop(), next(&mut stream));
    stopped.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);

    // It comes again with much to read: until it has, the stranger may be anybody.
    let entry = |n| {
        format!("---\nkind: Workload\nspiffe_id: spiffe://example.org/c/{n}\nselectors: ['unix:uid:7{n}']\n")
    };
    for first in [10_000, 15_000] {
        let text = (first..first + 5_000).map(entry).collect::<String>();
        node.server.write_documents(&format!("crowd-{first}"), &text).unwrap();
    }
    let mut told = Vec::new();
    let denied = poll::until("the stranger is denied", SOON, async || {
        let status = svids(&channel, stranger.id()).await.unwrap_err();
        told.push(format!("{:?}: {}", status.code(), status.message()));
        (status.code() == Code::PermissionDenied).then_some(())
    });
    let (started, denied) = tokio::join!(node.server.restart(), denied);
    started.unwrap();
    denied.unwrap();
    let starting = "Unavailable: the server is starting: come again";
    assert!(told.iter().any(|status| status == starting), "{told:?}");
    assert_eq!(ids(&svids(&channel, workload.id()).await.unwrap()), [WEB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn be_12_the_broker_api_is_served_and_counted() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let stream = followed(&channel, workload.id()).await;
    let status: serde_json::Value =
        serde_json::from_slice(&node.server.cli(&["status", "-o", "json"]).unwrap().stdout).unwrap();
    assert_eq!(status["details"]["broker"]["allowed"], 1, "{status}");
    // Listed as a stream of the process, opened by the broker; there is nothing to acknowledge.
    let listed: serde_json::Value =
        serde_json::from_slice(&node.server.cli(&["streams", "-o", "json"]).unwrap().stdout).unwrap();
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().filter(|listed| listed["protocol"] == "broker_api").collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["pid"], &listed[0]["certificate"]), (&workload.id().into(), &BROKER.into()));
    assert_eq!(listed[0]["names"][0]["name"], WEB);
    let unanswered = node.server.cli(&["streams", "--not-acknowledged", "-o", "json"]).unwrap();
    assert!(!String::from_utf8(unanswered.stdout).unwrap().contains("broker_api"));
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn be_13_reflection_tells_which_services_there_are() {
    let node = Node::start().await;
    let ask = |request: MessageRequest| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let questions = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("spiffe.broker.API".into())),
    ];
    let mut request = Request::new(tokio_stream::iter(questions));
    request.metadata_mut().insert("broker.spiffe.io", "true".parse().unwrap());
    let mut client = ServerReflectionClient::new(node.broker().await);
    let mut answers = client.server_reflection_info(request).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        next(&mut answers).await.unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"spiffe.broker.API"), "{names:?}");
    assert!(!names.contains(&"SpiffeWorkloadAPI"), "{names:?}");
    let Some(MessageResponse::FileDescriptorResponse(files)) =
        next(&mut answers).await.unwrap().message_response
    else {
        panic!("no description");
    };
    let file = &files.file_descriptor_proto[0];
    assert!(DESCRIPTORS.windows(file.len()).any(|part| part == file), "it is the file of this repository");
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_04_over_tcp_no_reference_is_taken() {
    let scratch = Scratch::new().unwrap();
    let door = Door::new(&scratch).unwrap();
    let options = Options { more: door.config(""), ..Options::default() };
    let _server = Server::start(&scratch, "server", &options).await.unwrap();
    let proxy = door.operator.issue("spiffe://operator/proxy", Duration::from_secs(3600)).unwrap();
    let channel = connect(door.address, &proxy).await.unwrap();
    let question = SubscribeToX509svidRequest { reference: by_pid(std::process::id()) };
    let refused =
        stream_with::<_, SubscribeToX509svidResponse>(&channel, "SubscribeToX509SVID", question, &["true"]);
    assert_eq!(refused.await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_stays_connected_to_what_comes_after_a_handover() {
    let mut node = Node::start().await;
    let workload = node.workload();
    followed(&node.broker().await, workload.id()).await;
    node.server.hand_over().await.unwrap();
    // On the same socket, which the one before has not taken away.
    let channel = node.broker().await;
    let is_served = async || svids(&channel, workload.id()).await.is_ok();
    poll::holds("the next server serves brokers", SOON, is_served).await.unwrap();
    assert!(node.socket.exists());
}
