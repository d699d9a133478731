//! What changed lately, and the watchers that read it at their own pace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{StoreError, Stored};
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

/// The changes of the last transactions, bounded in number and in bytes.
#[derive(Debug)]
pub(super) struct History(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    /// Everything after this revision, up to `newest`, is in `transactions`.
    from: Revision,
    newest: Revision,
    transactions: VecDeque<(Revision, usize, Vec<Change>)>,
    bytes: usize,
}

impl History {
    pub(super) fn starting_at(revision: Revision) -> Self {
        let transactions = VecDeque::new();
        Self(Mutex::new(Kept { from: revision, newest: revision, transactions, bytes: 0 }))
    }

    /// Adds what a transaction changed, and forgets the oldest where there is too much.
    pub(super) fn push(&self, revision: Revision, changes: Vec<Change>) {
        let size = changes.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, |s| s.value.len()) + 64).sum();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.newest = revision;
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
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = kept.newest;
        // A revision that is newer than any of ours comes from another history: the store was put back.
        if from < kept.from || from > kept.newest {
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
