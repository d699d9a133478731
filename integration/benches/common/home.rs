//! An authority on the disk of the target directory, with all that runs for it.

use std::sync::Arc;
use std::time::Duration;

use spiffe_bridge::authority::{self, Authority};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::TrustDomain;
use spiffe_bridge::keys::{DiskKeys, KeyManager};
use spiffe_bridge::{audit, store};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::disk;

/// The authority of `bench.test`, until it is stopped.
pub struct Home {
    pub directory: TempDir,
    pub authority: Authority,
    drain: CancellationToken,
    tasks: JoinSet<()>,
}

impl Home {
    pub async fn open() -> Self {
        let directory = disk::directory();
        let mut tasks = JoinSet::new();
        let (store, writer) = store::open(&directory.path().join("store.redb")).unwrap();
        std::thread::spawn(|| writer.run());
        let clock = Clock::system();
        let keys: Arc<dyn KeyManager> = Arc::new(DiskKeys::open(directory.path().join("keys")).unwrap());
        let config = authority::Config::new(TrustDomain::new("bench.test").unwrap());
        authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
        let log = audit::Log::open(store.clone(), clock.clone()).unwrap();
        authority::complete(&config, keys.clone(), &store, &log).await.unwrap();
        let (authority, issuer) = authority::open(config, keys, store, log, clock).unwrap();
        let drain = CancellationToken::new();
        let draining = drain.clone();
        tasks.spawn(async move { issuer.run(draining).await.unwrap() });
        Self { directory, authority, drain, tasks }
    }

    /// Has `one` issue each of `count`, `concurrent` at a time: by as many callers, each with its share.
    pub async fn issue<O, F>(&self, count: usize, concurrent: usize, one: O)
    where
        O: Fn(Authority, usize) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let mut callers = JoinSet::new();
        for caller in 0..concurrent.min(count) {
            let (authority, one) = (self.authority.clone(), one.clone());
            callers.spawn(async move {
                for number in (caller..count).step_by(concurrent) {
                    one(authority.clone(), number).await;
                }
            });
        }
        while let Some(done) = callers.join_next().await {
            done.unwrap();
        }
    }

    pub async fn stop(mut self) {
        self.drain.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(10), self.tasks.join_next()).await;
    }
}
