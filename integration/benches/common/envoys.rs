//! Envoys as far as the server sees them: a process each, with a connection of its own, two secrets, and once a second
//! the flush of statistics that a real Envoy sent.
//!
//! They run as this program again, which forks; what one of them costs in memory is a few pages.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::Message as _;

use super::sds;
use super::wire::{self, Came, Head, Reader};

const TASK: &str = "BENCH_ENVOYS";
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const PERIOD: Duration = Duration::from_secs(1);
/// What they ask for, each on its stream.
const NAMES: [(u32, &str); 2] = [(1, "default"), (3, "ROOTCA")];
/// Processes that connect at one time.
const OPENING: usize = 50;

/// All of them, ended on drop.
pub struct Envoys {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Envoys {
    /// Starts `count` at `socket` and waits until each has acknowledged its secrets. They flush `flush` from
    /// [`go`](Self::go) on.
    pub fn start(socket: &Path, flush: &Path, count: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(TASK, format!("{count} {} {}", socket.display(), flush.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut envoys = Self { child, output };
        let mut line = String::new();
        envoys.output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "an Envoy was not served");
        envoys
    }

    pub fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Envoys {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs them, if this process was started to.
pub fn run_if_asked() -> bool {
    let Ok(task) = std::env::var(TASK) else { return false };
    let words: Vec<&str> = task.split_whitespace().collect();
    let count: usize = words[0].parse().unwrap();
    let (socket, flush) = (Path::new(words[1]), std::fs::read(words[2]).unwrap());
    let (mut up, tell) = std::io::pipe().unwrap();
    let (wait, mut gate) = std::io::pipe().unwrap();
    let mut byte = [0];
    for number in 0..count {
        if number >= OPENING {
            up.read_exact(&mut byte).unwrap();
        }
        if fork() {
            let offset = PERIOD.mul_f64(number as f64 / count as f64);
            live(socket, &flush, offset, tell.into(), wait.into());
        }
    }
    for _ in 0..OPENING.min(count) {
        up.read_exact(&mut byte).unwrap();
    }
    println!("ready");
    std::io::stdin().lines().next();
    gate.write_all(&vec![0; count]).unwrap();
    std::thread::sleep(Duration::from_secs(3600)); // until we are killed, and they with us
    true
}

/// Whether this is the child, which ends with its parent.
#[allow(unsafe_code, reason = "rustix has no fork")]
fn fork() -> bool {
    // SAFETY: this process has one thread, so that the child may do what it likes.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no more processes");
    if child == 0 {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    }
    child == 0
}

fn live(socket: &Path, flush: &[u8], offset: Duration, tell: OwnedFd, wait: OwnedFd) -> ! {
    let stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut envoy = Envoy { stream, reader: Reader::default() };
    let open = NAMES.map(|(stream, name)| wire::open(stream, sds::STREAM_SECRETS, &[], &sds::first(name)));
    envoy.write(&[wire::hello(), open.concat()].concat());
    for _ in NAMES {
        let message = envoy.message();
        let name = name_of(&message);
        let (stream, _) = *NAMES.iter().find(|(_, of)| **of == name).unwrap();
        envoy.write(&wire::data(stream, &sds::ack(&name, &sds::decode(&message))));
    }
    rustix::io::write(&tell, &[0]).unwrap();
    rustix::io::read(&wait, &mut [0; 1]).unwrap();
    let start = Instant::now() + offset;
    for round in 0_u32.. {
        std::thread::sleep((start + PERIOD * round).saturating_duration_since(Instant::now()));
        let head = if round == 0 { Head::Keeping { path: EXPORT } } else { Head::Kept };
        envoy.write(&wire::call(5 + 2 * round, head, flush));
        envoy.end();
    }
    unreachable!("killed before")
}

struct Envoy {
    stream: UnixStream,
    reader: Reader,
}

impl Envoy {
    fn write(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap();
    }

    fn came(&mut self) -> Came {
        let mut octets = [0; 8192];
        loop {
            match self.reader.next() {
                Some(Came::Reply(octets)) => self.write(&octets),
                Some(came) => return came,
                None => {
                    let read = self.stream.read(&mut octets).unwrap();
                    assert!(read > 0, "the server closed a connection");
                    self.reader.push(&octets[..read]);
                }
            }
        }
    }

    fn message(&mut self) -> Bytes {
        loop {
            if let Came::Message(message) = self.came() {
                return message;
            }
        }
    }

    /// The end of a call.
    fn end(&mut self) {
        while !matches!(self.came(), Came::End) {}
    }
}

fn name_of(message: &Bytes) -> String {
    let response = sds::decode(message);
    Secret::decode(response.resources[0].value.as_slice()).unwrap().name
}
