//! A server under attack: how much memory it took at the most, and whether an honest client gets its secret.

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

/// What is no one's: code that runs for the first time, and pages that are not wholly used. Under 1 MiB was seen, also on a
/// machine that has more to do than it can.
const NOISE: u64 = 2 * MIB;
/// Honest clients at one time, before it counts what the server takes: all its threads have served then.
const WARM: usize = 64;

/// Has the allocator give back at once what is freed. By itself it keeps it for ten seconds, which was up to 150 MiB beside
/// a crowd of 120: a leak would not be seen.
const NOTHING_KEPT: &[(&str, &str)] = &[("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")];

pub(crate) struct World {
    pub(crate) server: Server,
    scratch: Scratch,
    before: u64,
}

impl World {
    /// A server that has served this process once, with `more` of its configuration.
    pub(crate) async fn start(more: &str) -> Self {
        let scratch = Scratch::new().unwrap();
        let options = Options { more: more.into(), environment: NOTHING_KEPT, ..Options::default() };
        let server = Server::start(&scratch, "server", &options).await.unwrap();
        let mut world = Self { server, scratch, before: 0 };
        world.entry("");
        let socket = world.socket();
        poll::holds("served", Duration::from_secs(20), async || sds::svid(&socket, ID).await.is_ok())
            .await
            .unwrap();
        futures::future::join_all((0..WARM).map(|_| world.others_are_served())).await;
        world.before = world.memory("VmHWM:");
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
        self.server.memory(field).expect("the server lives")
    }

    /// What is resident now, beyond the most that was before the attack.
    pub(crate) fn grown(&self) -> u64 {
        self.memory("VmRSS:").saturating_sub(self.before)
    }

    /// The most that ever was resident, likewise.
    pub(crate) fn peak(&self) -> u64 {
        self.memory("VmHWM:").saturating_sub(self.before)
    }

    /// Streams that the server says are open.
    pub(crate) fn open(&self) -> usize {
        let status = self.server.cli(&["streams", "-o", "json"]).unwrap().stdout;
        let streams: serde_json::Value = serde_json::from_slice(&status).unwrap();
        streams.as_array().map_or(0, Vec::len)
    }

    /// A client with a connection of its own gets its secret.
    pub(crate) async fn others_are_served(&self) {
        let credential = sds::svid(&self.socket(), "default").await.unwrap();
        assert_eq!(credential.chain.len(), 1);
    }

    /// The server lives, serves others, and never took more than `bound` beyond what it had.
    pub(crate) async fn stands(&self, bound: u64) {
        self.others_are_served().await;
        let [peak, bound] = [self.peak(), bound + NOISE].map(|bytes| bytes / 1024);
        println!("at the most {peak} KiB, of {bound} allowed");
        assert!(peak <= bound, "it took {peak} KiB more, and {bound} are its bound");
    }
}
