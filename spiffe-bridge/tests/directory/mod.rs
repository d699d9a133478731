//! A directory of entry files with the tasks that follow it, over a store in memory.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spiffe_bridge::audit::Log;
use spiffe_bridge::clock::{Clock, Hands, Timestamp};
use spiffe_bridge::identity::parse_trust_domain;
use spiffe_bridge::registration::{Directory, DirectoryHandle, EntryIndex, Indexer};
use spiffe_bridge::store::{self, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) hands: Hands,
    pub(crate) drain: CancellationToken,
}

pub(crate) struct Running {
    pub(crate) handle: DirectoryHandle,
    pub(crate) index: watch::Receiver<Arc<EntryIndex>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (store, writer) = store::in_memory().unwrap();
        std::thread::spawn(move || writer.run());
        let (clock, hands) = Clock::manual(Timestamp::from_unix_seconds(1_700_000_000));
        let drain = CancellationToken::new();
        Self { dir: tempfile::tempdir().unwrap(), store, clock, hands, drain }
    }

    /// Starts the tasks on the directory and waits for the first scan.
    pub(crate) async fn start(&mut self) -> Running {
        self.drain.cancel();
        self.drain = CancellationToken::new();
        let domain = parse_trust_domain("example.org").unwrap();
        let log = Log::open(self.store.clone(), self.clock.clone()).unwrap();
        let path = self.dir.path().to_owned();
        let (task, handle) = Directory::open(path, domain, &self.store, log, self.clock.clone()).unwrap();
        let (indexer, index) = Indexer::load(self.store.clone()).unwrap();
        tokio::spawn(task.run(self.drain.clone()));
        tokio::spawn(indexer.run(self.drain.clone()));
        handle.status().wait_for(|status| status.last_scan.is_some()).await.unwrap();
        Running { handle, index }
    }

    pub(crate) fn write(&self, file: &str, entries: &[&str]) {
        write(self.dir.path(), file, &documents(entries));
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.dir.path().join(file)).unwrap();
    }
}

/// Written aside and renamed, as a careful operator does.
pub(crate) fn write(dir: &Path, file: &str, text: &str) {
    let aside = dir.join(format!(".{file}"));
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, dir.join(file)).unwrap();
}

/// A document for each of `paths`, with a uid made of its name.
pub(crate) fn documents(paths: &[&str]) -> String {
    let uid = |path: &str| path.bytes().fold(7u32, |n, b| (n * 31 + u32::from(b)) % 60000);
    let document = |path: &&str| {
        format!(
            "---\nkind: Workload\nspiffe_id: spiffe://example.org/{path}\nselectors: [unix:uid:{}]\n",
            uid(path)
        )
    };
    paths.iter().map(document).collect()
}

impl Running {
    /// Waits until the index holds exactly `paths`.
    pub(crate) async fn expect(&mut self, paths: &[&str]) {
        let holds = |index: &Arc<EntryIndex>| {
            index
                .entries()
                .map(|e| e.spiffe_id.path().trim_start_matches('/').to_owned())
                .eq(paths.iter().copied())
        };
        let waited = tokio::time::timeout(Duration::from_secs(5), self.index.wait_for(holds)).await.is_ok();
        assert!(waited, "wanted {paths:?}, have {:?}", self.index.borrow());
    }

    pub(crate) fn paths(&self) -> usize {
        self.index.borrow().len()
    }
}
