//! Clients with a connection each, by [`wire`](super::wire), in processes of their own: each keeps one call open and
//! answers what comes on it.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use integration::remote;
use integration::stranger::Credential;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::sds;
use super::wire::{self, Came, Reader};

const TASK: &str = "BENCH_WIRES";
/// Clients that connect at one time.
const OPENING: usize = 50;

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Unix(text.into()), Self::Tcp))
    }
}

/// Whose certificate a client shows: files in PEM.
pub type Shown = [PathBuf; 2];

/// The clients of several processes.
pub struct Wires(Vec<Part>);

struct Part {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Wires {
    /// Opens `clients` connections to `place`, each with a stream of the secret `default`, from `processes` processes,
    /// and waits until all have it.
    pub fn open(place: &Place, shown: Option<&Shown>, clients: usize, processes: usize) -> Self {
        let shown = shown.map(|[chain, key]| format!("{} {}", chain.display(), key.display()));
        let part = |_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let task = format!("{} {place} {}", clients / processes, shown.as_deref().unwrap_or_default());
            let mut child = command.env(TASK, task).stdout(Stdio::piped()).spawn().unwrap();
            Part { output: BufReader::new(child.stdout.take().unwrap()), child }
        };
        let mut wires = Self((0..processes).map(part).collect());
        wires.all_answered(1);
        wires
    }

    /// Waits until each client has acknowledged `times` messages.
    pub fn all_answered(&mut self, times: usize) {
        for part in &mut self.0 {
            loop {
                let mut line = String::new();
                part.output.read_line(&mut line).unwrap();
                if line.trim().parse::<usize>().expect("the clients live") >= times {
                    break;
                }
            }
        }
    }

    /// CPU time of the clients.
    pub fn cpu(&self) -> std::time::Duration {
        self.0.iter().map(|part| super::cpu::of(part.child.id())).sum()
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for part in &mut self.0 {
            let _ = part.child.kill();
            let _ = part.child.wait();
        }
    }
}

/// Runs the clients, if this process was started to.
pub fn run_if_asked() -> bool {
    let Ok(task) = std::env::var(TASK) else { return false };
    let words: Vec<&str> = task.split_whitespace().collect();
    let (clients, place): (usize, Place) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    let credential = words.get(3).map(|key| Credential {
        chain: CertificateDer::pem_file_iter(words[2]).unwrap().collect::<Result<_, _>>().unwrap(),
        key: PrivateKeyDer::from_pem_file(key).unwrap(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(clients, place, credential));
    true
}

struct Shared {
    clients: usize,
    answered: AtomicUsize,
    opening: Semaphore,
    first: Vec<u8>,
}

async fn run(clients: usize, place: Place, credential: Option<Credential>) {
    let open = wire::open(1, sds::STREAM_SECRETS, &[], &sds::first("default"));
    let first = [wire::hello(), open].concat();
    let shared =
        Arc::new(Shared { clients, answered: AtomicUsize::new(0), opening: Semaphore::new(OPENING), first });
    let tls = credential.map(|credential| remote::client(Some(&credential)).unwrap());
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let (shared, place, tls) = (shared.clone(), place.clone(), tls.clone());
        all.spawn(async move {
            let turn = shared.opening.acquire().await.unwrap();
            match (&place, tls) {
                (Place::Unix(path), _) => {
                    let stream = loop {
                        match UnixStream::connect(path).await {
                            Ok(stream) => break stream,
                            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                        }
                    };
                    live(stream, &shared, turn).await;
                }
                (Place::Tcp(address), None) => {
                    let stream = TcpStream::connect(address).await.unwrap();
                    live(stream, &shared, turn).await;
                }
                (Place::Tcp(address), Some(tls)) => {
                    live(remote::shake(*address, tls).await.unwrap(), &shared, turn).await;
                }
            }
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
}

/// One client. Its turn to open is over when it has its first secret.
async fn live(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Shared,
    turn: tokio::sync::SemaphorePermit<'_>,
) {
    stream.write_all(&shared.first).await.unwrap();
    let mut turn = Some(turn);
    let mut reader = Reader::default();
    let mut octets = bytes::BytesMut::new();
    loop {
        octets.reserve(8192);
        assert!(stream.read_buf(&mut octets).await.unwrap() > 0, "the server closed a connection");
        reader.push(&octets);
        octets = bytes::BytesMut::new(); // an idle client keeps nothing
        while let Some(came) = reader.next() {
            match came {
                Came::Message(message) => {
                    stream.write_all(&wire::data(1, &ack(&message))).await.unwrap();
                    stream.flush().await.unwrap();
                    drop(turn.take());
                    let answered = shared.answered.fetch_add(1, Ordering::Relaxed) + 1;
                    if answered.is_multiple_of(shared.clients) {
                        println!("{}", answered / shared.clients);
                    }
                }
                Came::Reply(octets) => {
                    stream.write_all(&octets).await.unwrap();
                    stream.flush().await.unwrap();
                }
                Came::End => panic!("the server ended a stream"),
            }
        }
    }
}

fn ack(message: &Bytes) -> Bytes {
    sds::ack("default", &sds::decode(message))
}
