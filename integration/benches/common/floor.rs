//! The floor: a bare h2 server that sends ready frames, as a process of its own.
//!
//! It runs as this program again, told by its environment. A line on its standard input makes it send the
//! frame once more on every stream. It knows no gRPC, no caller and no secret: what a server spends beyond
//! this is its own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::Response;
use tokio::net::{UnixListener, UnixStream};

const SOCKET: &str = "BENCH_FLOOR_SOCKET";
const FRAME: &str = "BENCH_FLOOR_FRAME";

/// The process, killed on drop.
pub struct Floor {
    child: Child,
    input: ChildStdin,
    pub socket: PathBuf,
}

impl Floor {
    /// Starts it in `directory`, to send `frame`.
    pub fn start(directory: &Path, frame: &Bytes) -> Self {
        let (socket, file) = (directory.join("floor.sock"), directory.join("floor.frame"));
        std::fs::write(&file, frame).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SOCKET, &socket)
            .env(FRAME, &file)
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

/// Runs the floor, if this process was started as one.
pub fn run_if_asked() -> bool {
    let (Some(socket), Some(frame)) = (std::env::var_os(SOCKET), std::env::var_os(FRAME)) else {
        return false;
    };
    let frame = Bytes::from(std::fs::read(frame).unwrap());
    // As many threads as the server has: all of the machine's.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve(listen(&socket), frame));
    true
}

fn listen(socket: &std::ffi::OsStr) -> std::os::unix::net::UnixListener {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    // The standard library asks for 128 places in the backlog; listening again asks for what the kernel gives.
    rustix::net::listen(&listener, i32::MAX).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

async fn serve(listener: std::os::unix::net::UnixListener, frame: Bytes) {
    let listener = UnixListener::from_std(listener).unwrap();
    let connections: Arc<Mutex<Vec<Streams>>> = Arc::default();
    let (pushed, again) = (connections.clone(), frame.clone());
    std::thread::spawn(move || push_on_demand(&pushed, &again));
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let streams = Streams::default();
        connections.lock().unwrap().push(streams.clone());
        tokio::spawn(connection(stream, streams, frame.clone()));
    }
}

fn push_on_demand(connections: &Mutex<Vec<Streams>>, frame: &Bytes) {
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        for streams in connections.lock().unwrap().iter() {
            // A stream that has gone is nobody's concern here.
            streams.lock().unwrap().retain_mut(|stream| stream.send_data(frame.clone(), false).is_ok());
        }
    }
}

async fn connection(stream: UnixStream, streams: Streams, frame: Bytes) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(10_000).initial_connection_window_size(1 << 20);
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let Some(send) = answer(respond, &frame) else { continue };
        streams.lock().unwrap().push(send);
        let mut body = request.into_body();
        tokio::spawn(async move {
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
        });
    }
    streams.lock().unwrap().clear();
}

fn answer(mut respond: SendResponse<Bytes>, frame: &Bytes) -> Option<SendStream<Bytes>> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).ok()?;
    let mut send = respond.send_response(head, false).ok()?;
    send.send_data(frame.clone(), false).ok()?;
    Some(send)
}
