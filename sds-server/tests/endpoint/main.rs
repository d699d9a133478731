//! The API socket, with real sockets: who may bind it, who may connect, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sds_server::endpoint::uds::Listener;
use sds_server::endpoint::{Config, Limits, Peer, Server};
use sds_server::runtime::{Drainer, drain};
use spiffe_bridge::node::{Caller, Session, Sessions};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tonic::body::Body;

mod connections;
mod http2;
mod socket;

fn tempdir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/api.sock");
    (dir, path)
}

/// A server whose service answers `/fast` at once with the caller's pid, `/slow` when it is told, and `/echo` with
/// what it is sent.
struct Fixture {
    _dir: tempfile::TempDir,
    path: PathBuf,
    drainer: Drainer,
    limits: Limits,
    finish: tokio::sync::watch::Sender<bool>,
    sessions: mpsc::UnboundedReceiver<Sessions>,
    /// A slow answer is under way, and is not any more.
    begun: Arc<Notify>,
    dropped: Arc<Notify>,
    server: JoinHandle<std::io::Result<()>>,
}

fn serve(config: Config) -> Fixture {
    let (_dir, path) = tempdir();
    let listener = Listener::bind(&path, 0o666).unwrap();
    let limits = Limits::new(&config, 100_000);
    let (drainer, drain) = drain::channel();
    let (finish, finished) = tokio::sync::watch::channel(false);
    let (begun, dropped) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (begins, drops) = (begun.clone(), dropped.clone());
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (mut finished, begins, drops) = (finished.clone(), begins.clone(), drops.clone());
        async move {
            if request.uri().path() == "/echo" {
                return Ok::<_, Infallible>(http::Response::new(request.into_body()));
            }
            if request.uri().path() == "/slow" {
                let _told = Told(drops);
                begins.notify_one();
                let _ = finished.wait_for(|finished| *finished).await;
            }
            let session = request.extensions().get::<Session>().unwrap();
            Ok(http::Response::new(Body::new(session.caller().pid().unwrap().to_string())))
        }
    });
    let (sender, sessions) = mpsc::unbounded_channel();
    let admit = move |peer: Peer, connection| {
        let caller = Caller::local(connection, peer.pid, peer.uid, peer.gid);
        let (writer, session) = Session::channel(caller);
        sender.send(writer).unwrap();
        (session, std::future::pending())
    };
    let server = Server::new(listener, limits.clone(), config, service, admit);
    let server = tokio::spawn(server.run(drain));
    Fixture { _dir, path, drainer, limits, finish, sessions, begun, dropped, server }
}

struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

type Client = hyper::client::conn::http2::SendRequest<http_body_util::Empty<Bytes>>;

impl Fixture {
    async fn connect(&self) -> (Client, JoinHandle<()>) {
        let stream = UnixStream::connect(&self.path).await.unwrap();
        let (client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        (client, tokio::spawn(async move { drop(connection.await) }))
    }
}

async fn get(client: &mut Client, path: &str) -> Result<String, hyper::Error> {
    let request = http::Request::get(format!("http://localhost{path}")).body(http_body_util::Empty::new());
    let body = client.send_request(request.unwrap()).await?.into_body();
    let bytes = http_body_util::BodyExt::collect(body).await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it takes too long")
}
