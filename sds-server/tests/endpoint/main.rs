//! The API socket, with real sockets: who may bind it, who may connect, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sds_server::endpoint::uds::{BindError, DirectoryError, Listener};
use sds_server::endpoint::{Config, Limits, Peer, Server};
use sds_server::runtime::{Drainer, drain};
use spiffe_bridge::node::{Caller, EndReason, Session, SessionState, Sessions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tonic::body::Body;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn tempdir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/api.sock");
    (dir, path)
}

#[tokio::test]
async fn a_socket_is_bound_for_everybody_and_removed_at_the_end() {
    let (_dir, path) = tempdir();
    let listener = Listener::bind(&path, 0o666).unwrap();
    assert_eq!(mode(&path), 0o666);
    assert_eq!(mode(path.parent().unwrap()), 0o755);
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_another_server_listens_on_is_refused_and_left() {
    let (_dir, path) = tempdir();
    let _listener = Listener::bind(&path, 0o666).unwrap();
    assert!(matches!(Listener::bind(&path, 0o666), Err(BindError::InUse { .. })));
    assert!(path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let (_dir, path) = tempdir();
    fs::create_dir(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // std leaves the file
    assert!(path.exists());
    let _listener = Listener::bind(&path, 0o666).unwrap();
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_refused_and_left() {
    let (_dir, path) = tempdir();
    fs::create_dir(path.parent().unwrap()).unwrap();
    let check = |expected: &str| match Listener::bind(&path, 0o666).unwrap_err() {
        BindError::NotASocket { what, .. } => assert_eq!(what, expected),
        other => panic!("{other:?}"),
    };
    let elsewhere = path.with_file_name("elsewhere");
    symlink(&elsewhere, &path).unwrap();
    check("a symlink");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    check("a file");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_directory_that_others_can_write_to_is_refused() {
    let (dir, path) = tempdir();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    for writable in [0o777, 0o1777, 0o775] {
        fs::set_permissions(parent, Permissions::from_mode(writable)).unwrap();
        let error = Listener::bind(&path, 0o666).unwrap_err();
        assert!(matches!(error, BindError::Directory(DirectoryError::Writable { .. })), "{error}");
    }
    fs::set_permissions(parent, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let error = Listener::bind(&path, 0o666).unwrap_err();
    assert!(error.to_string().contains("chmod go-w"), "{error}");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    Listener::bind(&path, 0o666).unwrap(); // sticky, and not the last
}

#[tokio::test]
async fn a_directory_of_somebody_else_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return; // nobody else can give a directory away; CI runs as root
    }
    let (_dir, path) = tempdir();
    fs::create_dir(path.parent().unwrap()).unwrap();
    std::os::unix::fs::chown(path.parent().unwrap(), Some(4242), None).unwrap();
    let error = Listener::bind(&path, 0o666).unwrap_err();
    assert!(matches!(error, BindError::Directory(DirectoryError::Owner { owner: 4242, .. })), "{error}");
}

#[tokio::test]
async fn paths_that_no_socket_can_have_are_refused_with_advice() {
    let (dir, _) = tempdir();
    let check = |path: &Path, expected: &str| {
        let error = Listener::bind(path, 0o666).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(Path::new("@abstract"), "abstract");
    check(&dir.path().join("x".repeat(120)), "107");
}

#[tokio::test]
async fn a_socket_that_was_replaced_is_left_at_the_end() {
    let (_dir, path) = tempdir();
    let first = Listener::bind(&path, 0o666).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = Listener::bind(&path, 0o666).unwrap();
    drop(first);
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_peer_is_told_by_the_kernel() {
    let (_dir, path) = tempdir();
    let listener = Listener::bind(&path, 0o666).unwrap();
    let (client, server) = tokio::join!(UnixStream::connect(&path), listener.accept());
    let peer = Peer::of(&server.unwrap()).unwrap();
    assert_eq!(peer.pid, std::process::id());
    assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    drop(client);
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
    server: JoinHandle<Result<(), Infallible>>,
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

#[tokio::test]
async fn a_request_carries_its_callers_session() {
    let fixture = serve(Config::default());
    let (mut client, _connection) = fixture.connect().await;
    assert_eq!(get(&mut client, "/fast").await.unwrap(), std::process::id().to_string());
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_the_next_one_fits_again() {
    let fixture = serve(Config { connections: 2, connections_per_uid: 1, ..Config::default() });
    let (mut client, connection) = fixture.connect().await;
    get(&mut client, "/fast").await.unwrap();

    let mut refused = UnixStream::connect(&fixture.path).await.unwrap();
    assert_eq!(soon(refused.read(&mut [0; 64])).await.unwrap_or(0), 0);

    drop(client);
    soon(connection).await.unwrap();
    soon(async {
        while fixture.limits.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut client, _connection) = fixture.connect().await;
    get(&mut client, "/fast").await.unwrap();
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let fixture = serve(Config { first_request: Duration::from_millis(50), ..Config::default() });
    let mut silent = UnixStream::connect(&fixture.path).await.unwrap();
    let mut sink = Vec::new();
    let _ = soon(silent.read_to_end(&mut sink)).await;
    assert_eq!(fixture.limits.open(), 0);
}

#[tokio::test]
async fn a_drain_says_goaway_lets_work_finish_and_frees_the_path() {
    let fixture = serve(Config::default());
    let (mut client, _connection) = fixture.connect().await;
    get(&mut client, "/fast").await.unwrap();
    let mut other = client.clone();
    let slow = tokio::spawn(async move { get(&mut other, "/slow").await });
    get(&mut client, "/fast").await.unwrap(); // the slow request went out before this one

    fixture.drainer.begin();
    soon(async {
        // The client hears GOAWAY: it may send nothing more.
        while get(&mut client, "/fast").await.is_ok() {}
    })
    .await;
    assert!(!fixture.path.exists());
    assert!(!fixture.server.is_finished());
    fixture.finish.send_replace(true);
    assert_eq!(soon(slow).await.unwrap().unwrap(), std::process::id().to_string());
    soon(fixture.server).await.unwrap().unwrap();
    assert_eq!(fixture.limits.open(), 0);
}

#[tokio::test]
async fn work_that_does_not_finish_is_dropped_when_the_drain_is_forced() {
    let fixture = serve(Config::default());
    let (mut client, _connection) = fixture.connect().await;
    let slow = tokio::spawn(async move { get(&mut client, "/slow").await });
    soon(async {
        while fixture.limits.open() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fixture.drainer.begin();
    fixture.drainer.force();
    soon(fixture.server).await.unwrap().unwrap();
    assert!(soon(slow).await.unwrap().is_err());
}

#[tokio::test]
async fn a_connection_whose_session_has_ended_is_closed() {
    let mut fixture = serve(Config::default());
    let (mut client, connection) = fixture.connect().await;
    get(&mut client, "/fast").await.unwrap();
    let writer = fixture.sessions.recv().await.unwrap();
    writer.publish(SessionState::Ended(EndReason::ProcessExited));
    soon(connection).await.unwrap();
    soon(writer.abandoned()).await;
}

/// The library itself, which shows what hyper hides.
async fn connect_h2(fixture: &Fixture) -> (h2::client::SendRequest<Bytes>, JoinHandle<()>) {
    let stream = UnixStream::connect(&fixture.path).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    (client, tokio::spawn(async move { drop(connection.await) }))
}

fn request(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://localhost{path}")).body(()).unwrap()
}

#[tokio::test]
async fn a_request_that_is_reset_is_given_up() {
    let fixture = serve(Config::default());
    let (client, _connection) = connect_h2(&fixture).await;
    let mut client = client.ready().await.unwrap();
    let (answer, mut body) = client.send_request(request("/slow"), false).unwrap();
    soon(fixture.begun.notified()).await;
    body.send_reset(h2::Reason::CANCEL);
    soon(fixture.dropped.notified()).await; // the service's future is gone: nobody works for nobody
    assert!(answer.await.is_err());
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways_as_the_windows_allow() {
    let fixture = serve(Config::default());
    let (client, _connection) = connect_h2(&fixture).await;
    let mut client = client.ready().await.unwrap();
    let (answer, mut body) = client.send_request(request("/echo"), false).unwrap();
    let sent = Bytes::from(vec![7; 1 << 20]); // sixteen windows
    let send = async {
        for chunk in sent.chunks(10_000) {
            body.reserve_capacity(chunk.len());
            while body.capacity() < chunk.len() {
                std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            }
            body.send_data(Bytes::copy_from_slice(chunk), false).unwrap();
        }
        let end = http::HeaderMap::from_iter([("end".parse().unwrap(), "here".parse().unwrap())]);
        body.send_trailers(end).unwrap();
    };
    let receive = async {
        let mut body = answer.await.unwrap().into_body();
        let mut received = 0;
        while let Some(data) = body.data().await {
            let count = data.unwrap().len();
            body.flow_control().release_capacity(count).unwrap();
            received += count;
        }
        (received, body.trailers().await.unwrap())
    };
    let ((), (received, trailers)) = soon(async { tokio::join!(send, receive) }).await;
    assert_eq!((received, trailers.unwrap()["end"].as_bytes()), (sent.len(), b"here".as_slice()));
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused_and_the_connection_lives() {
    let fixture = serve(Config { header_list_bytes: 1024, ..Config::default() });
    let (client, _connection) = connect_h2(&fixture).await;
    let mut client = client.ready().await.unwrap();
    let mut large = request("/fast");
    large.headers_mut().insert("large", "x".repeat(2000).parse().unwrap());
    let status = |answer: Result<http::Response<h2::RecvStream>, h2::Error>| answer.map(|a| a.status());
    let refused = status(client.send_request(large, true).unwrap().0.await);
    assert!(refused.as_ref().map_or(true, |status| status.as_u16() == 431), "{refused:?}");
    assert_eq!(status(client.send_request(request("/fast"), true).unwrap().0.await).unwrap(), 200);
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let fixture = serve(Config::default());
    let (client, connection) = connect_h2(&fixture).await;
    let mut client = client.ready().await.unwrap();
    for _ in 0..200 {
        let (_, mut body) = client.send_request(request("/slow"), false).unwrap();
        body.send_reset(h2::Reason::CANCEL);
    }
    soon(connection).await.unwrap();
}

/// Length, type, flags, stream. RFC 9113 §4.1.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: u8 = 6;
/// HEADERS with END_STREAM and END_HEADERS, `GET /` by HPACK's static table, authority left out.
const GET: [u8; 12] = [0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x87];

/// A peer that speaks by hand: it has asked for something, and reads the server's PINGs.
async fn by_hand(fixture: &Fixture) -> UnixStream {
    let mut stream = UnixStream::connect(&fixture.path).await.unwrap();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &SETTINGS, &GET].concat();
    stream.write_all(&hello).await.unwrap();
    stream
}

async fn ping(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    loop {
        let mut frame = vec![0; 9];
        stream.read_exact(&mut frame).await?;
        let [_, high, low, kind, flags, ..] = frame[..] else { unreachable!() };
        let length = usize::from(high) * 256 + usize::from(low);
        frame.resize(9 + length, 0);
        stream.read_exact(&mut frame[9..]).await?;
        if (kind, flags) == (PING, 0) {
            return Ok(frame);
        }
    }
}

#[tokio::test]
async fn a_peer_that_gives_a_sign_of_life_is_kept_and_a_silent_one_is_not() {
    let brief = Duration::from_millis(100);
    let fixture = serve(Config { keepalive_interval: brief, keepalive_timeout: brief, ..Config::default() });
    let mut stream = by_hand(&fixture).await;
    for _ in 0..3 {
        let mut answer = soon(ping(&mut stream)).await.unwrap();
        answer[4] = 1; // ACK
        stream.write_all(&answer).await.unwrap();
    }
    soon(ping(&mut stream)).await.unwrap(); // asked once more; not answered
    assert!(soon(ping(&mut stream)).await.is_err(), "the connection is closed");
    soon(async {
        while fixture.limits.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
