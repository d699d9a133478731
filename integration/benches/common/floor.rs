//! The floor: a bare h2 server that sends ready frames, as a process of its own.
//!
//! It runs as this program again, told by its environment. A line on its standard input makes it send the
//! frame once more on every stream. It knows no gRPC, no caller and no secret: what a server spends beyond
//! this is its own. One kind sends in a loop over all streams, which is the least that can be; in the other
//! each stream is woken and sends for itself, as it must where streams differ in what they get.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::Response;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

const SOCKET: &str = "BENCH_FLOOR_SOCKET";
const FRAME: &str = "BENCH_FLOOR_FRAME";
const KIND: &str = "BENCH_FLOOR_KIND";

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Loop,
    Woken,
}

/// The process, killed on drop.
pub struct Floor {
    child: Child,
    input: ChildStdin,
    pub socket: PathBuf,
}

impl Floor {
    /// Starts it in `directory`, to send `frame`.
    pub fn start(kind: Kind, directory: &Path, frame: &Bytes) -> Self {
        let path = |what: &str| directory.join(format!("{kind:?}.{what}"));
        let (socket, file) = (path("sock"), path("frame"));
        std::fs::write(&file, frame).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SOCKET, &socket)
            .env(FRAME, &file)
            .env(KIND, format!("{kind:?}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let input = child.stdin.take().unwrap();
        Self { child, input, socket }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn push(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Streams = Arc<Mutex<Vec<SendStream<Bytes>>>>;

/// What the connections share.
struct Shared {
    frame: Bytes,
    kind: Kind,
    /// Of the kind that loops.
    connections: Mutex<Vec<Streams>>,
    /// Of the kind that wakes: how often to send.
    pushes: watch::Sender<u64>,
}

/// Runs the floor, if this process was started as one.
pub fn run_if_asked() -> bool {
    let (Some(socket), Some(frame)) = (std::env::var_os(SOCKET), std::env::var_os(FRAME)) else {
        return false;
    };
    let kind = if std::env::var(KIND).unwrap() == "Loop" { Kind::Loop } else { Kind::Woken };
    let frame = Bytes::from(std::fs::read(frame).unwrap());
    let (connections, pushes) = (Mutex::default(), watch::Sender::new(0));
    // As many threads as the server has: all of the machine's.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve(socket.into(), Arc::new(Shared { frame, kind, connections, pushes })));
    true
}

async fn serve(socket: PathBuf, shared: Arc<Shared>) {
    let listener = UnixListener::bind(socket).unwrap();
    // tokio asks for 1,024 places in the backlog at most; listening again asks for what the kernel gives.
    rustix::net::listen(&listener, i32::MAX).unwrap();
    let pushed = shared.clone();
    std::thread::spawn(move || push_on_demand(&pushed));
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(connection(stream, shared.clone()));
    }
}

fn push_on_demand(shared: &Shared) {
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        shared.pushes.send_modify(|pushes| *pushes += 1);
        for streams in shared.connections.lock().unwrap().iter() {
            // A stream that has gone is nobody's concern here.
            streams
                .lock()
                .unwrap()
                .retain_mut(|stream| stream.send_data(shared.frame.clone(), false).is_ok());
        }
    }
}

async fn connection(stream: UnixStream, shared: Arc<Shared>) {
    let streams = Streams::default();
    shared.connections.lock().unwrap().push(streams.clone());
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(10_000).initial_connection_window_size(1 << 20);
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let Some(send) = answer(respond, &shared.frame) else { continue };
        let body = request.into_body();
        match shared.kind {
            Kind::Loop => {
                streams.lock().unwrap().push(send);
                tokio::spawn(hear(body));
            }
            Kind::Woken => {
                tokio::spawn(live(body, send, shared.frame.clone(), shared.pushes.subscribe()));
            }
        }
    }
    streams.lock().unwrap().clear();
}

async fn hear(mut body: RecvStream) {
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
}

async fn live(
    mut body: RecvStream,
    mut send: SendStream<Bytes>,
    frame: Bytes,
    mut pushes: watch::Receiver<u64>,
) {
    loop {
        tokio::select! {
            Ok(()) = pushes.changed() => {
                if send.send_data(frame.clone(), false).is_err() {
                    return;
                }
            }
            data = body.data() => {
                let Some(Ok(data)) = data else { return };
                let _ = body.flow_control().release_capacity(data.len());
            }
        }
    }
}

fn answer(mut respond: SendResponse<Bytes>, frame: &Bytes) -> Option<SendStream<Bytes>> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).ok()?;
    let mut send = respond.send_response(head, false).ok()?;
    send.send_data(frame.clone(), false).ok()?;
    Some(send)
}
