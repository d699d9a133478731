//! Another user's process that attacks the socket for brokers until it is killed: this program, run as `helper_attacker`.

use std::path::{Path, PathBuf};
use std::process::Command;

use integration::process::Process;
use integration::stranger::RogueCa;
use integration::{remote, sds, seats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::Code;

use super::fixture::{BROKER, Node, channel, shake, svid_stream};

pub(crate) const GREEDY: &str = "spiffe://example.org/greedy";
/// Its user and group.
pub(crate) const USER: u32 = 30_001;

const ATTACK: &str = "COUNTERSIGN_TEST_ATTACK";
const API: &str = "COUNTERSIGN_TEST_API";
const SOCKET: &str = "COUNTERSIGN_TEST_SOCKET";
const WORKLOAD: &str = "COUNTERSIGN_TEST_WORKLOAD";

/// A process of another user that attacks `node`.
pub(crate) fn attacker(node: &Node, attack: &str, workload: u32) -> Process {
    let program = std::env::current_exe().unwrap();
    let program = seats::runnable(&node.scratch, "attacker", &program).unwrap();
    let mut command = Command::new(program);
    command.args(["helper_attacker", "--nocapture"]);
    command.envs([(ATTACK, attack), (WORKLOAD, &workload.to_string())]);
    command.envs([(API, node.server.socket()), (SOCKET, node.socket.clone())]);
    Process::spawn(attack, command, Some(USER), &node.scratch.path().join("attacker.log")).unwrap()
}

/// How often it has attacked.
pub(crate) fn attacks(attacker: &Process) -> usize {
    attacker.output().lines().filter_map(|line| line.parse().ok()).max().unwrap_or_default()
}

/// Not a test of its own: attacks until it is killed, and says how often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helper_attacker() {
    let Ok(attack) = std::env::var(ATTACK) else { return };
    let path = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let (api, socket) = (path(API), path(SOCKET));
    match attack.as_str() {
        "half-open" => half_open(&socket).await,
        "refused" => refused(&socket).await,
        "connections" => connections(&api, &socket).await,
        "streams" => streams(&api, &socket, std::env::var(WORKLOAD).unwrap().parse().unwrap()).await,
        other => panic!("{other}"),
    }
}

fn say(count: usize) {
    if count.is_multiple_of(100) {
        println!("\n{count}");
    }
}

/// Whether the server has not closed it.
fn is_open(stream: &UnixStream) -> bool {
    stream
        .try_read(&mut [0; 64])
        .map_or_else(|error| error.kind() == std::io::ErrorKind::WouldBlock, |n| n > 0)
}

/// The head of a ClientHello that does not come, held for as long as the server lets it.
async fn half_open(socket: &Path) {
    let mut held = Vec::new();
    for count in 1.. {
        let mut stream = sds::dialled(socket).await.unwrap();
        let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
        held.push(stream);
        if count % 100 == 0 {
            held.retain(is_open);
        }
        say(count);
    }
}

/// Whole handshakes with a certificate of an authority that is not the server's.
async fn refused(socket: &Path) {
    let svid = RogueCa::new("example.org").unwrap().svid(BROKER).unwrap();
    for count in 1.. {
        let stream = sds::dialled(socket).await.unwrap();
        if let Ok(mut stream) = shake(stream, remote::client(Some(&svid)).unwrap()).await {
            let _ = stream.read(&mut [0; 64]).await;
        }
        say(count);
    }
}

/// Whole handshakes of a broker that is allowed, and no request.
async fn connections(api: &Path, socket: &Path) {
    let svid = sds::svid(api, GREEDY).await.unwrap();
    let mut held = Vec::new();
    for count in 1.. {
        let stream = sds::dialled(socket).await.unwrap();
        held.extend(shake(stream, remote::client(Some(&svid)).unwrap()).await);
        if count % 100 == 0 {
            held.retain(|stream| is_open(stream.get_ref().0));
        }
        say(count);
    }
}

/// Calls of a broker that is allowed, never read, and asked for again when they are refused.
async fn streams(api: &Path, socket: &Path, workload: u32) {
    let svid = sds::svid(api, GREEDY).await.unwrap();
    let (mut held, mut count) = (Vec::new(), 0);
    loop {
        let Ok(channel) = channel(socket, &svid).await else { continue };
        for _ in 0..200 {
            match svid_stream(&channel, workload).await {
                Ok(stream) => held.push(stream),
                Err(refused) if refused.code() == Code::ResourceExhausted => {}
                Err(_) => break, // the connection is gone
            }
            count += 1;
            say(count);
        }
    }
}
