//! The clients' process.

use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use prost::Message as _;
use sds_server::sds::wire;
use tokio::net::UnixStream;

use super::{STREAMS_PER_CONNECTION, TYPE_URL};

// ---- the clients

pub(super) async fn client(path: &Path, streams: usize) {
    let mut left = streams;
    while left > 0 {
        let count = left.min(STREAMS_PER_CONNECTION);
        left -= count;
        tokio::spawn(connection(path.to_owned(), count));
    }
    std::future::pending::<()>().await;
}

pub(super) async fn connection(path: PathBuf, streams: usize) {
    let stream = UnixStream::connect(path).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(64 << 20).initial_max_send_streams(100_000);
    let (mut send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..streams {
        send = send.ready().await.unwrap();
        let request =
            http::Request::post("http://sds/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .unwrap();
        let (response, body) = send.send_request(request, false).unwrap();
        tokio::spawn(envoy(response, body));
    }
    std::future::pending::<()>().await;
}

/// Subscribes to `default`, and acknowledges whatever comes.
async fn envoy(response: h2::client::ResponseFuture, mut body: h2::SendStream<Bytes>) {
    let node = Node { id: "envoy".into(), cluster: "bench".into(), ..Node::default() };
    body.send_data(request(Some(node), String::new(), String::new()), false).unwrap();
    let Ok(response) = response.await else { return }; // the server is done
    let mut receive = response.into_body();
    let mut buf = BytesMut::new();
    while let Some(Ok(data)) = receive.data().await {
        receive.flow_control().release_capacity(data.len()).unwrap();
        buf.extend_from_slice(&data);
        while buf.len() >= 5 {
            let len = u32::from_be_bytes(buf[1..5].try_into().unwrap()) as usize;
            if buf.len() < 5 + len {
                break;
            }
            let mut message = buf.split_to(5 + len);
            message.advance(5);
            let head = wire::DiscoveryResponseHead::decode(message.freeze()).unwrap();
            body.send_data(request(None, head.version_info, head.nonce), false).unwrap();
        }
    }
}

pub(super) fn request(node: Option<Node>, version_info: String, response_nonce: String) -> Bytes {
    let request = DiscoveryRequest {
        node,
        version_info,
        response_nonce,
        resource_names: vec!["default".to_owned()],
        type_url: TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    };
    let mut buf = BytesMut::from(&[0; 5][..]);
    request.encode(&mut buf).unwrap();
    let len = u32::try_from(buf.len() - 5).unwrap();
    buf[1..5].copy_from_slice(&len.to_be_bytes());
    buf.freeze()
}
