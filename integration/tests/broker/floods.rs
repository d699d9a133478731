//! Brokers that open without end, and clients that are none: another user's, who may connect to the socket.
//!
//! Counts, not times, as in the floods of the other socket.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use integration::server::Options;
use integration::{poll, sds};
use spiffe::WorkloadApiClient;

use super::attacker::{GREEDY, USER, attacker, attacks};
use super::fixture::{BROKER, Node, SOON, WEB, followed, ids, next, selector, svids};

const MIB: u64 = 1 << 20;
/// What an allocator may keep, and a debug build needs, beside what is bounded.
const NOISE: u64 = 24 * MIB;
/// Files of the callers that are served meanwhile.
const OURS: usize = 48;

/// How many files the server has open.
fn files(node: &Node) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.server.id())).unwrap().count()
}

/// What an attack took of the server, beyond what it had, at the most.
struct Taken {
    files: usize,
    memory: u64,
}

impl Taken {
    #[track_caller]
    fn assert_within(&self, files: usize, memory: u64) {
        assert!(self.files <= files + OURS, "{} files, and {files} are its bound", self.files);
        let (took, bound) = (self.memory / MIB, memory / MIB);
        assert!(self.memory <= memory + NOISE, "it took {took} MiB more, and {bound} are its bound");
    }
}

/// Attacks until `least` were counted, and a broker and a workload of this user were served twenty times meanwhile.
async fn check(attack: &str, least: usize) -> Taken {
    let more = "limits: {connections: 1000, connections_per_uid: 400}\n";
    let options = Options { more: more.into(), ..Options::default() };
    let node = Node::start_among(options, &[GREEDY], &format!(", streams: 256, group: {USER}")).await;
    assert_eq!(std::fs::metadata(&node.socket).unwrap().gid(), USER, "it may connect");
    node.give("greedy", GREEDY, &format!("unix:uid:{USER}")).await;
    let (workload, svid) = (node.workload(), node.svid(BROKER).await);
    let broker = node.channel(&svid).await;
    let mut stream = followed(&broker, workload.id()).await;
    let (memory, open) = (node.server.memory("VmRSS:").unwrap(), files(&node));

    let mut attacker = attacker(&node, attack, workload.id());
    let (mut rounds, mut most, began) = (0, 0, Instant::now());
    while rounds < 20 || attacks(&attacker) < least {
        attacker.alive().unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(180),
            "{} attacks in {rounds} rounds",
            attacks(&attacker)
        );
        let served = async {
            let told = svids(&node.channel(&svid).await, workload.id()).await.unwrap();
            assert_eq!(ids(&told), [WEB]);
            assert_eq!(sds::svid(&node.server.socket(), BROKER).await.unwrap().chain.len(), 1);
            let api = format!("unix:{}", node.server.socket().display());
            WorkloadApiClient::connect_to(api).await.unwrap().fetch_x509_context().await.unwrap();
        };
        tokio::time::timeout(SOON, served).await.expect("others are served");
        (rounds, most) = (rounds + 1, most.max(files(&node)));
    }
    let more = "spiffe://example.org/more";
    node.give("more", more, &selector("sleep")).await;
    assert_eq!(ids(&next(&mut stream).await.unwrap()), [more, WEB], "a stream that was open goes on");
    attacker.kill().unwrap();
    let closed = async || files(&node) <= open + OURS / 4;
    poll::holds("its files are closed", Duration::from_secs(30), closed).await.unwrap();
    let memory = node.server.memory("VmHWM:").unwrap().saturating_sub(memory);
    let taken = Taken { files: most.saturating_sub(open), memory };
    println!("{attack}: {} files, {} MiB, in {rounds} rounds", taken.files, memory / MIB);
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_do_not_end_keep_no_broker_out() {
    // A quarter of 64.
    check("half-open", 2000).await.assert_within(16, MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_whose_certificates_are_refused_keep_no_broker_out() {
    check("refused", 1000).await.assert_within(16, MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_connects_without_end_has_the_connections_of_its_user_and_no_more() {
    // With what TLS and HTTP/2 keep of each.
    check("connections", 2000).await.assert_within(400, 400 * 64 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_without_end_has_half_of_the_calls_and_no_more() {
    // 128 calls, each with its process, and the connections that they are on.
    check("streams", 5000).await.assert_within(128 + 16, 2 * MIB);
}
