//! What changed lately, and the watchers that read it at their own pace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{StoreError, Stored, Write};
use crate::identity::Revision;

/// The transactions that are kept for watchers: some seconds' worth at full speed. A watcher that is
/// further behind lists again, which then is cheaper than to follow.
const KEPT_TRANSACTIONS: usize = 4096;
/// What their keys and values may take together.
const KEPT_BYTES: usize = 8 << 20;

/// A key and what is now stored under it; `None` if it was removed.
pub(super) type Change = (Vec<u8>, Option<Stored>);

/// What a [`Watch`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Keys that changed, each with its newest value.
    Since {
        /// The revision up to which changes are told.
        revision: Revision,
        /// Key and newest value (`None`: removed), in the order of the keys. Never empty.
        changed: Vec<(Vec<u8>, Option<Stored>)>,
    },
    /// Some changes are no longer known: list again. What follows is told from `revision` on.
    Lagged {
        /// The newest revision.
        revision: Revision,
    },
}

/// Follows the changes under a prefix.
#[derive(Debug)]
pub struct Watch {
    prefix: Vec<u8>,
    seen: Revision,
    history: Arc<History>,
    revisions: watch::Receiver<Revision>,
}

impl Watch {
    pub(super) fn new(
        prefix: Vec<u8>,
        from: Revision,
        history: Arc<History>,
        mut revisions: watch::Receiver<Revision>,
    ) -> Self {
        revisions.mark_changed();
        history.follow(&prefix);
        Self { prefix, seen: from, history, revisions }
    }

    /// Waits for the next changes, those of several transactions taken together. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the writer has ended.
    pub async fn next(&mut self) -> Result<Changes, StoreError> {
        loop {
            self.revisions.changed().await.map_err(|_| StoreError::Closed)?;
            if let Some(changes) = self.history.since(self.seen, &self.prefix, &mut self.seen) {
                return Ok(changes);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.history.leave(&self.prefix);
    }
}

/// The changes of the last transactions, bounded in number and in bytes: those that somebody follows. What is written
/// most, reservations and the audit log, nobody does.
#[derive(Debug)]
pub(super) struct History(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    /// As many as there are watches.
    followed: Vec<Followed>,
    /// Everything that is followed after this revision, up to `newest`, is in `transactions`.
    from: Revision,
    newest: Revision,
    transactions: VecDeque<(Revision, usize, Vec<Change>)>,
    bytes: usize,
}

/// A prefix that watches follow, and from when on its changes are kept.
#[derive(Debug)]
struct Followed {
    prefix: Vec<u8>,
    from: Revision,
    watches: usize,
}

impl History {
    pub(super) fn starting_at(revision: Revision) -> Self {
        let (followed, transactions) = Default::default();
        Self(Mutex::new(Kept { followed, from: revision, newest: revision, transactions, bytes: 0 }))
    }

    fn follow(&self, prefix: &[u8]) {
        let mut kept = self.kept();
        let from = kept.newest;
        match kept.followed.iter_mut().find(|followed| followed.prefix == prefix) {
            Some(followed) => followed.watches += 1,
            None => kept.followed.push(Followed { prefix: prefix.to_vec(), from, watches: 1 }),
        }
    }

    fn leave(&self, prefix: &[u8]) {
        let mut kept = self.kept();
        kept.followed.retain_mut(|followed| {
            followed.watches -= usize::from(followed.prefix == prefix);
            followed.watches > 0
        });
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a transaction wrote, and forgets the oldest where there is too much.
    pub(super) fn push(&self, revision: Revision, writes: Vec<Write>) {
        let mut kept = self.kept();
        kept.newest = revision;
        let is_followed = |key: &[u8]| kept.followed.iter().any(|followed| key.starts_with(&followed.prefix));
        let change = |write| match write {
            Write::Put { key, value } => (key, Some(Stored { value, revision })),
            Write::Delete { key } => (key, None),
        };
        let changes: Vec<Change> =
            writes.into_iter().map(change).filter(|(key, _)| is_followed(key)).collect();
        if changes.is_empty() {
            return;
        }
        let size = changes.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, |s| s.value.len()) + 64).sum();
        kept.bytes += size;
        kept.transactions.push_back((revision, size, changes));
        while kept.transactions.len() > KEPT_TRANSACTIONS || kept.bytes > KEPT_BYTES {
            let Some((revision, size, _)) = kept.transactions.pop_front() else { break };
            kept.from = revision;
            kept.bytes -= size;
        }
    }

    /// What changed under `prefix` after `seen`, which is then moved to the newest revision.
    fn since(&self, from: Revision, prefix: &[u8], seen: &mut Revision) -> Option<Changes> {
        let kept = self.kept();
        *seen = kept.newest;
        let followed = kept.followed.iter().find(|followed| followed.prefix == prefix);
        let told_from = followed.map_or(kept.newest, |followed| followed.from).max(kept.from);
        // A revision that is newer than any of ours comes from another history: the store was put back.
        if from < told_from || from > kept.newest {
            return Some(Changes::Lagged { revision: kept.newest });
        }
        let start = kept.transactions.partition_point(|(revision, ..)| *revision <= from);
        let mut changed: BTreeMap<&[u8], &Option<Stored>> = BTreeMap::new();
        for (key, value) in kept.transactions.range(start..).flat_map(|(_, _, changes)| changes) {
            if key.starts_with(prefix) {
                changed.insert(key, value);
            }
        }
        if changed.is_empty() {
            return None;
        }
        let changed = changed.into_iter().map(|(key, value)| (key.to_vec(), value.clone())).collect();
        Some(Changes::Since { revision: kept.newest, changed })
    }
}
