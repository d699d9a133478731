//! The entries directory: scanned, judged, and what is accepted of it written to the store.
//!
//! Every pass looks at the whole directory and does the same with or without a hint: inotify, the
//! operator's command and the timer only say when.
//!
//! **The brake against mass removal.** Withdrawn is an entry whose SPIFFE ID then has fewer entries
//! than before: new selectors for the same ID withdraw nothing. What a change withdraws is held back until
//! [`DirectoryHandle::prune`], while all else of it is taken in, if it would leave no entry at all, or if it and what went in the
//! minute before it withdraw more than one entry and more than a tenth of them. So a single entry
//! can always be withdrawn while others remain, and deleting file after file is not a way around it.
//! A directory that cannot be read withdraws nothing, pruned or not. A first, empty one is fine.
//!
//! **Profiles** withdraw nothing from anybody: one that an accepted entry names stays as it was accepted, whatever
//! becomes of its file, until the entry goes or names another.
//!
//! A file that is being written in place may be seen half-written where another file's change leads
//! to a pass just then: write it under a hidden name and rename it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spiffe::TrustDomain;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::audit::Log;
use crate::clock::{Clock, Timestamp};
use crate::identity::Revision;
use crate::store::{Store, StoreError};

mod apply;
pub(super) mod decide;
mod profiles;
pub(super) mod scan;
mod status;
mod watcher;

pub use status::{DirectoryStatus, HeldBack, HeldBecause, Problem};

use super::indexer::IndexError;
use decide::Files;
use scan::Scanner;
use watcher::Watcher;

/// Behind inotify, which misses what happens behind a link or on a network file system.
const EVERY: Duration = Duration::from_secs(30);

/// Operators type slowly.
const COMMANDS: usize = 8;

/// Whether the operator has said that entries may be withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brake {
    On,
    Released,
}

struct Command {
    brake: Brake,
    done: oneshot::Sender<Arc<DirectoryStatus>>,
}

/// The task that keeps the store as the directory has it.
pub struct Directory {
    path: PathBuf,
    scanner: Option<Scanner>,
    /// Of the store that the entries are in.
    log: Log,
    clock: Clock,
    accepted: Files,
    /// Of the store, after what this task wrote last.
    revision: Revision,
    /// When and how many entries were withdrawn lately.
    withdrawn: Vec<(Timestamp, usize)>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Arc<DirectoryStatus>>,
}

/// Asks the task, and tells how it stands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DirectoryHandle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Arc<DirectoryStatus>>,
}

impl Directory {
    /// The task for the entry files in `path`, and its handle. It goes on from what the store holds.
    ///
    /// # Errors
    /// [`IndexError`] if the store's entries cannot be read.
    pub fn open(
        path: PathBuf,
        trust_domain: TrustDomain,
        store: &Store,
        log: Log,
        clock: Clock,
    ) -> Result<(Self, DirectoryHandle), IndexError> {
        let accepted = apply::load(store)?;
        let (sender, commands) = mpsc::channel(COMMANDS);
        let entries = accepted.values().map(|form| form.entries.len()).sum();
        let start = DirectoryStatus { entries, ..DirectoryStatus::default() };
        let (status, receiver) = watch::channel(Arc::new(start));
        let scanner = Some(Scanner::new(path.clone(), trust_domain));
        let (withdrawn, revision) = (Vec::new(), Revision(0));
        let task = Self { path, scanner, log, clock, accepted, revision, withdrawn, commands, status };
        Ok((task, DirectoryHandle { commands: sender, status: receiver }))
    }

    /// Keeps the store as the directory has it, until drained.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the store's writer has ended.
    pub async fn run(mut self, drain: CancellationToken) -> Result<(), StoreError> {
        // A permit, not a queue: hints that come during a pass lead to one more pass.
        let hint = Arc::new(Notify::new());
        let mut watcher = Watcher::default();
        let mut command = None;
        loop {
            watcher.follow(&self.path, &hint); // Before the scan, so that no change falls between the two.
            let brake = command.as_ref().map_or(Brake::On, |c: &Command| c.brake);
            self.pass(brake).await?;
            if let Some(Command { done, .. }) = command.take() {
                let _ = done.send(self.status.borrow().clone()); // Its caller may have gone.
            }
            tokio::select! {
                () = drain.cancelled() => return Ok(()),
                Some(asked) = self.commands.recv() => command = Some(asked),
                () = hint.notified() => {}
                () = self.clock.sleep_until(self.clock.now() + EVERY) => {}
            }
        }
    }
}

impl DirectoryHandle {
    /// Scans now, and returns how it then stands; `None` if the task has ended.
    pub async fn rescan(&self) -> Option<Arc<DirectoryStatus>> {
        self.ask(Brake::On).await
    }

    /// Scans now, and withdraws what the brake holds back; returns how it then stands, or `None` if
    /// the task has ended. A directory that cannot be read still withdraws nothing.
    pub async fn prune(&self) -> Option<Arc<DirectoryStatus>> {
        self.ask(Brake::Released).await
    }

    /// How it stands, and the changes of that.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<DirectoryStatus>> {
        self.status.clone()
    }

    async fn ask(&self, brake: Brake) -> Option<Arc<DirectoryStatus>> {
        let (done, status) = oneshot::channel();
        self.commands.send(Command { brake, done }).await.ok()?;
        status.await.ok()
    }
}
