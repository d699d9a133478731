//! A server under attack: how much memory it took at the most, and whether an honest client gets its secret.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::{poll, sds};

pub(crate) const ID: &str = "spiffe://example.org/web";
pub(crate) const STREAM: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
pub(crate) const DELTA: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
pub(crate) const FETCH: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";
pub(crate) const X509: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
pub(crate) const MIB: u64 = 1 << 20;

/// What an allocator may keep, and a debug build needs, beside what is bounded: generous, so that no test fails for it.
const NOISE: u64 = 64 * MIB;

pub(crate) struct World {
    pub(crate) server: Server,
    scratch: Scratch,
    before: u64,
}

impl World {
    /// A server that has served this process once, with `more` of its configuration.
    pub(crate) async fn start(more: &str) -> Self {
        let scratch = Scratch::new().unwrap();
        let options = Options { more: more.into(), ..Options::default() };
        let server = Server::start(&scratch, "server", &options).await.unwrap();
        let mut world = Self { server, scratch, before: 0 };
        world.entry("");
        let socket = world.socket();
        poll::holds("served", Duration::from_secs(20), async || sds::svid(&socket, ID).await.is_ok())
            .await
            .unwrap();
        world.before = world.memory("VmRSS:");
        world
    }

    /// Writes the entry of this process anew, with `more` in it.
    pub(crate) fn entry(&self, more: &str) {
        let selector = Seats::here().own_selector().unwrap();
        let text = format!("kind: Workload\nspiffe_id: {ID}\nselectors: ['{selector}']\n{more}");
        self.server.write_documents("web", &text).unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.server.socket()
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    fn memory(&self, field: &str) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.server.id())).expect("the server lives");
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// What is resident now, beyond what was before the attack.
    pub(crate) fn grown(&self) -> u64 {
        self.memory("VmRSS:").saturating_sub(self.before)
    }

    /// A client with a connection of its own gets its secret.
    pub(crate) async fn others_are_served(&self) {
        let credential = sds::svid(&self.socket(), "default").await.unwrap();
        assert_eq!(credential.chain.len(), 1);
    }

    /// The server lives, serves others, and never took more than `bound` beyond what it had.
    pub(crate) async fn stands(&self, bound: u64) {
        self.others_are_served().await;
        let peak = self.memory("VmHWM:").saturating_sub(self.before);
        println!("at the most {} MiB, of {} + {} allowed", peak / MIB, bound / MIB, NOISE / MIB);
        assert!(peak <= bound + NOISE, "it took {} MiB more, and {} are its bound", peak / MIB, bound / MIB);
    }
}
