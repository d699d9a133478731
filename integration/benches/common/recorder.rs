//! One flush of statistics as a real Envoy sent it: a sidecar is started beside the server, and its sink sends here.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use envoy_configs::{Admin, Callee, Kind, Settings, render};
use h2::server;
use http::{HeaderMap, Response};
use integration::envoy::Envoy;
use integration::ports;
use integration::scratch::Scratch;
use integration::seats::Seat;
use integration::tools::Release;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Flushes that come before the one that is kept: everything is proved and at rest by then.
const SKIPPED: usize = 4;

/// The message of a flush, in its gRPC frame, of a sidecar that the server at `socket` gives its identity to this user.
pub async fn flush(socket: &Path, directory: &Path) -> Bytes {
    let recorder = directory.join("otlp.sock");
    let listener = UnixListener::bind(&recorder).unwrap();
    let (told, mut flushes) = mpsc::channel(8);
    let recording = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(record(stream, told.clone()));
        }
    });
    let scratch = Scratch::new().unwrap();
    let callee = Callee::Workload("spiffe://bench.test/api".parse().unwrap());
    let mut settings = Settings::new(Kind::Sidecar, "bench.test".parse().unwrap(), callee);
    settings.socket = socket.to_path_buf();
    settings.inbound = ports::free().unwrap();
    settings.outbound = ports::free().unwrap();
    settings.app = ports::free().unwrap();
    settings.admin = Admin::Unix(Envoy::admin_socket(&scratch, "envoy"));
    let text = render(Kind::Sidecar, &settings).unwrap();
    // To a cluster of its own; in service it is that of SDS.
    let sink = "grpc_service: { envoy_grpc: { cluster_name: sds } }";
    assert!(text.contains(sink));
    let cluster = &text[text.find("  - name: sds\n").unwrap()..];
    let cluster = cluster.replace("name: sds\n", "name: recorder\n");
    let cluster = cluster.replace(&socket.display().to_string(), &recorder.display().to_string());
    let text = text.replace(sink, &sink.replace("sds", "recorder")) + &cluster;
    let program = Release::default().envoy().unwrap().to_path_buf();
    let seat = Seat { uid: None, program, selector: String::new() };
    let mut envoy = Envoy::start(&scratch, "envoy", &seat, &text).unwrap();
    envoy.live().await.unwrap();
    let mut flush = Bytes::new();
    for _ in 0..SKIPPED {
        let next = tokio::time::timeout(Duration::from_secs(20), flushes.recv()).await;
        flush = next.unwrap_or_else(|_| panic!("no flush came\n{}", envoy.tail())).unwrap();
    }
    recording.abort();
    flush
}

async fn record(stream: UnixStream, told: mpsc::Sender<Bytes>) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let told = told.clone();
        tokio::spawn(async move {
            let mut body = request.into_body();
            let mut message = BytesMut::new();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                message.extend_from_slice(&data);
            }
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut send = respond.send_response(head, false).unwrap();
            send.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            send.send_trailers(trailers).unwrap();
            let _ = told.send(message.freeze()).await; // nobody listens any more: it was recorded
        });
    }
}
