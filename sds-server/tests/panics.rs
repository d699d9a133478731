//! A service that panics: its request is reset, the connection and its other streams live, the log has it once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use sds_server::endpoint::uds::Listener;
use sds_server::endpoint::{Config, Limits, Peer, Server};
use sds_server::{runtime, telemetry};
use spiffe_bridge::node::{Caller, Session};
use tokio::net::UnixStream;
use tonic::body::Body;

const ROUNDS: usize = 500;

/// What is written to the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A body of one frame, after which it panics.
struct Fragile(bool);

impl futures::Stream for Fragile {
    type Item = Result<Frame<Bytes>, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        assert!(!std::mem::replace(&mut self.0, true), "a secret that the code had at hand");
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"so far")))))
    }
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    match request.uri().path() {
        "/panics" => panic!("a secret that the code had at hand"),
        "/breaks" => Ok(Response::new(Body::new(StreamBody::new(Fragile(false))))),
        "/echo" => Ok(Response::new(request.into_body())),
        _ => Ok(Response::new(Body::empty())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_of_its_request_alone_is_counted_and_told_once() {
    let log = Log::default();
    let written = log.clone();
    tracing_subscriber::fmt().with_writer(move || written.clone()).with_ansi(false).init();
    telemetry::panics::install();
    // What this test itself finds wrong is told, too.
    let (ours, here) = (std::panic::take_hook(), std::thread::current().id());
    std::panic::set_hook(Box::new(move |panic| {
        ours(panic);
        if std::thread::current().id() == here {
            eprintln!("{panic}");
        }
    }));
    let metrics = telemetry::metrics::install().unwrap();
    sds_server::endpoint::describe();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/api.sock");
    let config = Config::default();
    let limits = Limits::new(&config, 100);
    let admit = |peer: Peer, connection| {
        let (sessions, session) = Session::channel(Caller::local(connection, peer.pid, peer.uid, peer.gid));
        (session, async move { sessions.abandoned().await })
    };
    let listener = Listener::bind(&path, 0o666).unwrap();
    let server = Server::new(listener, limits, config, tower::service_fn(answer), admit);
    let (_drainer, drain) = runtime::drain::channel();
    tokio::spawn(server.run(drain));

    let stream = UnixStream::connect(&path).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap() });
    let request = |path: &str| Request::builder().uri(format!("http://localhost{path}")).body(()).unwrap();
    // One that lives through all of it.
    let mut client = client.ready().await.unwrap();
    let (echo, mut sender) = client.send_request(request("/echo"), false).unwrap();
    let mut echo = echo.await.unwrap().into_body();

    for round in 0..ROUNDS {
        client = client.ready().await.unwrap();
        let (response, _) = client.send_request(request("/panics"), true).unwrap();
        let error = response.await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{round}");

        client = client.ready().await.unwrap();
        let (response, _) = client.send_request(request("/breaks"), true).unwrap();
        // What it had said goes out with the reset, or not any more.
        let error = match response.await {
            Ok(response) => {
                let mut body = response.into_body();
                loop {
                    if let Err(error) = body.data().await.unwrap() {
                        break error;
                    }
                }
            }
            Err(error) => error,
        };
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{round}");

        sender.send_data(Bytes::from_static(b"alive"), false).unwrap();
        let data = echo.data().await.unwrap().unwrap();
        echo.flow_control().release_capacity(data.len()).unwrap();
        assert_eq!(data, "alive", "{round}");
    }
    client = client.ready().await.unwrap();
    let (response, _) = client.send_request(request("/fine"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);

    let counted = format!("countersign_requests_panicked_total {}", 2 * ROUNDS);
    let rendered = metrics.render();
    assert!(rendered.contains(&counted), "{rendered}");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert_eq!(lines.len(), 2, "one for each place: {log}");
    assert!(lines.iter().all(|line| line.contains("tests/panics.rs")), "{log}");
    assert!(!log.contains("a secret"), "{log}");
}
