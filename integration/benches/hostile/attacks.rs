//! Attackers and burners: this program again, in processes of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc::Status;
use integration::raw;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::common::cpu;
use super::common::sds::{Ask, Connection};

const TASK: &str = "BENCH_HOSTILE";
/// Questions for each answer: several share one.
const AGAIN: usize = 8;
/// As an attacker has it who does not care to be one process.
const PROCESSES: usize = 2;

/// What is done to the server, without a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    /// The same names asked for once more, on one stream each.
    Requests,
    /// Streams opened and reset until the connection is closed, and again.
    Resets,
    /// 5,000 streams each that never read, and then connections that say nothing.
    Silent,
    /// 64 clients each that connect, get their secret and leave.
    Crowd,
    /// Everything refused and asked for again.
    Refusals,
    /// The crowd, by the Workload API.
    Callers,
    /// The resets, of calls of the Workload API.
    CallerResets,
}

impl Attack {
    pub(crate) const ALL: [Self; 7] = [
        Self::Requests,
        Self::Resets,
        Self::Silent,
        Self::Crowd,
        Self::Refusals,
        Self::Callers,
        Self::CallerResets,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Resets => "resets",
            Self::Silent => "silent",
            Self::Crowd => "crowd",
            Self::Refusals => "refusals",
            Self::Callers => "callers",
            Self::CallerResets => "caller-resets",
        }
    }
}

/// Processes that end with this value.
struct Processes(Vec<Child>);

impl Processes {
    fn start(task: &str, count: usize) -> Self {
        let start = |_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let mut child = command.env(TASK, task).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "on\n");
            child
        };
        Self((0..count).map(start).collect())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) struct Attackers(Processes);

impl Attackers {
    pub(crate) fn start(attack: Attack, socket: &Path) -> Self {
        Self(Processes::start(&format!("{} {}", attack.name(), socket.display()), PROCESSES))
    }

    /// What they have spent so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.0.0.iter().map(|child| cpu::of(child.id())).sum()
    }
}

pub(crate) struct Burners {
    _processes: Processes,
}

impl Burners {
    /// Burns `share` cores, over as many processes as an attack and the server have busy threads.
    pub(crate) fn start(share: f64) -> Self {
        const THREADS: usize = 4;
        Self { _processes: Processes::start(&format!("burn {}", share / THREADS as f64), THREADS) }
    }
}

/// Attacks or burns, if this process was started to.
pub(crate) fn run_if_asked() -> bool {
    let Ok(task) = std::env::var(TASK) else { return false };
    let (what, with) = task.split_once(' ').unwrap();
    if what == "burn" {
        println!("on");
        burn(with.parse().unwrap());
    }
    let attack = Attack::ALL.into_iter().find(|attack| attack.name() == what).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(attack, PathBuf::from(with)));
    true
}

/// Burns `share` of a core, by its own CPU clock: what others take from it is made up for.
fn burn(share: f64) -> ! {
    let start = Instant::now();
    loop {
        let due = start.elapsed().mul_f64(share.min(1.0));
        if cpu::thread() < due {
            let _ = std::hint::black_box((0..10_000_u64).map(std::hint::black_box).sum::<u64>());
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

async fn run(attack: Attack, socket: PathBuf) {
    match attack {
        Attack::Silent => silent(&socket).await,
        Attack::Crowd | Attack::Callers => {
            println!("on");
            let by_workload_api = attack == Attack::Callers;
            let ask = if by_workload_api { Ask::Workload("FetchX509SVID") } else { "default".into() };
            let mut clients = tokio::task::JoinSet::new();
            for _ in 0..64 {
                let (socket, ask) = (socket.clone(), ask.clone());
                clients.spawn(async move {
                    loop {
                        Connection::open(&socket).await.ask(&ask).await.read().await;
                    }
                });
            }
            clients.join_all().await;
        }
        Attack::Requests | Attack::Resets | Attack::Refusals | Attack::CallerResets => {
            println!("on");
            loop {
                // Ends when the server closes the connection.
                let _ = match attack {
                    Attack::Resets => resets(&socket, DELTA).await,
                    Attack::CallerResets => resets(&socket, FETCH).await,
                    _ => ask_again(&socket, attack == Attack::Refusals).await,
                };
            }
        }
    }
}

async fn greeted(socket: &Path, window: [u8; 4]) -> std::io::Result<UnixStream> {
    let mut stream = loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stream => break stream?,
        }
    };
    // SETTINGS_INITIAL_WINDOW_SIZE, and as much for the connection.
    let setting = [&[0, 4][..], &window].concat();
    let more = raw::frame(8, 0, 0, &0x3fff_ffff_u32.to_be_bytes());
    stream.write_all(&[raw::PREFACE, &raw::frame(raw::SETTINGS, 0, 0, &setting), &more].concat()).await?;
    Ok(stream)
}

fn head(path: &str, stream: u32) -> Vec<u8> {
    let mut fields = raw::grpc(path);
    fields.push(("workload.spiffe.io", "true".into())); // SDS does not look at it
    raw::frame(raw::HEADERS, raw::END_HEADERS, stream, &raw::block(&fields))
}

const FETCH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
const DELTA: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";

async fn resets(socket: &Path, path: &str) -> std::io::Result<()> {
    let mut stream = greeted(socket, [0, 0, 255, 255]).await?;
    let cancel = 8_u32.to_be_bytes();
    let mut number = 1;
    loop {
        let mut many = Vec::new();
        for _ in 0..100 {
            many.extend([head(path, number), raw::frame(raw::RST_STREAM, 0, number, &cancel)].concat());
            number += 2;
        }
        stream.write_all(&many).await?;
    }
}

/// Each answer at once followed by the same question [`AGAIN`] times over, or by as many refusals with it. A name that is
/// new each time has the server answer however much of this it has heard before.
async fn ask_again(socket: &Path, refuses: bool) -> std::io::Result<()> {
    let mut stream = greeted(socket, 0x3fff_ffff_u32.to_be_bytes()).await?;
    stream.write_all(&head(DELTA, 1)).await?;
    let mut count = 0_u64;
    let mut ask = |nonce: String| {
        count += 1;
        let error = Status { code: 13, message: "Failed to load".into(), ..Status::default() };
        let error_detail = (refuses && !nonce.is_empty()).then_some(error);
        let request = DeltaDiscoveryRequest {
            resource_names_subscribe: ["ROOTCA".into(), "default".into(), format!("none-{count}")].into(),
            resource_names_unsubscribe: vec![format!("none-{}", count - 1)],
            response_nonce: nonce,
            error_detail,
            ..Default::default()
        };
        raw::frame(raw::DATA, 0, 1, &raw::message(&request.encode_to_vec()))
    };
    stream.write_all(&ask(String::new())).await?;
    let (mut all, mut body, mut buffer) = (Vec::new(), Vec::new(), vec![0; 64 << 10]);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        all.extend_from_slice(&buffer[..count]);
        let mut credit = 0;
        while let Some((head, rest)) = all.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            if head[3] == raw::RST_STREAM {
                return Ok(()); // more came at once than the server had room for
            }
            if head[3] == raw::DATA {
                body.extend_from_slice(payload);
                credit += u32::try_from(length).unwrap();
            }
            all.drain(..9 + length);
        }
        let messages = raw::messages(&body);
        let read: usize = messages.iter().map(|message| message.len() + 5).sum();
        let last = messages.last().map(|message| DeltaDiscoveryResponse::decode(*message).unwrap().nonce);
        let again: Vec<u8> = last
            .iter()
            .flat_map(|nonce| (0..AGAIN).flat_map(|_| ask(nonce.clone())).collect::<Vec<u8>>())
            .collect();
        body.drain(..read);
        if credit > 0 {
            let credit = credit.to_be_bytes();
            let windows = [0, 1].map(|stream| raw::frame(8, 0, stream, &credit)).concat();
            stream.write_all(&windows).await?;
        }
        stream.write_all(&again).await?;
    }
}

/// Streams that never read, and then connections that never speak, opened as fast as they are closed.
async fn silent(socket: &Path) {
    let mut open = Vec::new();
    let ask =
        DeltaDiscoveryRequest { resource_names_subscribe: vec!["default".into()], ..Default::default() };
    let ask = raw::message(&ask.encode_to_vec());
    for _ in 0..50 {
        let mut stream = greeted(socket, [0; 4]).await.unwrap();
        for number in (1..200).step_by(2) {
            let request = [head(DELTA, number), raw::frame(raw::DATA, 0, number, &ask)].concat();
            stream.write_all(&request).await.unwrap();
        }
        open.push(stream);
    }
    println!("on");
    let mut mute = std::collections::VecDeque::new();
    loop {
        mute.push_back(greeted(socket, [0; 4]).await);
        if mute.len() > 500 {
            mute.pop_front();
        }
    }
}
