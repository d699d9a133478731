//! Five thousand clients that come back at once, as after a restart.

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use integration::{poll, raw};
use prost::Message;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::hand;
use super::world::{MIB, STREAM, World};

const CLIENTS: usize = 5000;
const WINDOW: u32 = 65_535;

/// Connects, asks for the secret, and reads until it came.
async fn served(socket: std::path::PathBuf) -> UnixStream {
    let ask = DiscoveryRequest { resource_names: vec!["default".into()], ..Default::default() };
    let data = raw::frame(raw::DATA, 0, 1, &raw::message(&ask.encode_to_vec()));
    let mut stream = hand::greeted(&socket, WINDOW).await;
    stream.write_all(&[hand::head(STREAM, 1), data].concat()).await.unwrap();
    let (mut came, mut buffer) = (Vec::new(), vec![0; 4096]);
    while memchr::memmem::find(&came, b"PRIVATE KEY").is_none() {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the server closed it");
        came.extend_from_slice(&buffer[..count]);
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_clients_that_come_back_at_once_are_all_served() {
    // Each of them is a file here.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let world = World::start("").await;
    let mut peaks = Vec::new();
    for _ in 0..3 {
        let mut crowd = JoinSet::new();
        (0..CLIENTS).for_each(|_| drop(crowd.spawn(served(world.socket()))));
        world.others_are_served().await;
        let connected = crowd.join_all().await;
        assert_eq!(connected.len(), CLIENTS);
        drop(connected); // all at once, and they come again
        poll::holds("they are gone", Duration::from_secs(60), async || world.open() < 10).await.unwrap();
        peaks.push(world.peak());
    }
    // A connection with its stream: 24 KiB (docs/performance.md), 32 here.
    world.stands(CLIENTS as u64 * 32 * 1024).await;
    println!("KiB after each: {:?}", peaks.iter().map(|peak| peak / 1024).collect::<Vec<_>>());
    // Of each of the ten thousand that came after the first not a whole KiB.
    assert!(peaks[2] < peaks[0] + 8 * MIB, "something of each stays: {peaks:?}");
    let log = world.server.log().lines().count();
    assert!(log < 200, "{log} lines in the log");
}
