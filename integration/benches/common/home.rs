//! An authority on the disk of the target directory, with all that runs for it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use spiffe_bridge::authority::{self, Authority};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::{SpiffeId, TrustDomain};
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

    /// Has `one` issue all of `shares`: a caller for each share, one after the other.
    pub async fn issue<W, O>(&self, shares: Vec<Vec<W>>, one: O)
    where
        W: Send + 'static,
        O: for<'a> Fn(&'a Authority, W) -> BoxFuture<'a, ()> + Clone + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for share in shares {
            let (authority, one) = (self.authority.clone(), one.clone());
            tasks.spawn(async move {
                for what in share {
                    one(&authority, what).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    pub async fn stop(mut self) {
        self.drain.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(10), self.tasks.join_next()).await;
    }
}

/// `what`, dealt out to so many callers.
pub fn dealt<W>(what: impl IntoIterator<Item = W>, callers: usize) -> Vec<Vec<W>> {
    let mut shares: Vec<Vec<W>> = (0..callers).map(|_| Vec::new()).collect();
    what.into_iter().enumerate().for_each(|(number, what)| shares[number % callers].push(what));
    shares
}

/// Whom SVIDs are issued to.
pub fn identities(count: usize) -> Vec<SpiffeId> {
    let id = |number| SpiffeId::new(format!("spiffe://bench.test/ns/payments/sa/{number}")).unwrap();
    (0..count).map(id).collect()
}
