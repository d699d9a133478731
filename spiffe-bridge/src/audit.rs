//! The audit log: each issuance and each decision has its record before the answer goes out (invariant 5).
//!
//! Records are JSON under `audit/<sequence, 16 hex digits>`. Sequence numbers rise by one with each
//! record, over restarts too, and are never used twice; one that was reserved and not written leaves a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::clock::Clock;
use crate::identity::Revision;
use crate::store::{Store, StoreError, Transaction, Write};

mod event;

pub use event::{Event, Record};

const PREFIX: &[u8] = b"audit/";
/// Outlives the pruning of every record.
const PRUNED: &[u8] = b"audit-pruned";
/// The most records that one step of pruning removes, so that a signature never waits long behind it.
const PRUNE_STEP: usize = 500;

/// The log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    store: Store,
    clock: Clock,
    next: Arc<AtomicU64>,
}

/// Why the log could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The store failed.
    #[error("the audit log is not available")]
    Store(#[from] StoreError),
    /// A key of the log is not a sequence number.
    #[error("the audit log holds a key that is not ours ({key}): restore the store from a backup")]
    ForeignKey {
        /// The key.
        key: String,
    },
}

impl Log {
    /// The log in `store`, which goes on behind its last record. One log a store: the sequence is counted here.
    ///
    /// # Errors
    /// [`AuditError`] if the store cannot be read.
    pub fn open(store: Store, clock: Clock) -> Result<Self, AuditError> {
        let last = store.last(PREFIX)?.map(|(key, _)| sequence_of(&key)).transpose()?;
        let pruned = store.get(PRUNED)?.and_then(|v| <[u8; 8]>::try_from(v.value.as_slice()).ok());
        let next = last.map_or(0, |n| n + 1).max(pruned.map_or(0, |n| u64::from_be_bytes(n) + 1));
        Ok(Self { store, clock, next: Arc::new(AtomicU64::new(next)) })
    }

    /// Appends `events`, all or none, and returns once they are durable.
    ///
    /// # Errors
    /// [`AuditError::Store`]; the event must then not take effect.
    pub async fn append<D: Serialize>(&self, events: Vec<Event<D>>) -> Result<Revision, AuditError> {
        let writes = self.writes(events);
        Ok(self.store.transact(Transaction { compares: Vec::new(), writes }).await?)
    }

    /// The writes that append `events`, to be made part of the caller's own transaction.
    #[must_use]
    pub fn writes<D: Serialize>(&self, events: impl IntoIterator<Item = Event<D>>) -> Vec<Write> {
        let time = self.clock.now();
        let put = |event: Event<D>| {
            let sequence = self.next.fetch_add(1, Ordering::Relaxed);
            let record = Record { sequence, time: time.unix_millis(), event };
            Write::Put { key: key_of(sequence), value: record.to_bytes() }
        };
        events.into_iter().map(put).collect()
    }

    /// The records from `from` on, at most `limit` of them.
    ///
    /// # Errors
    /// [`AuditError::Store`] if the store cannot be read.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<Record>, AuditError> {
        let rows = self.store.list_from(PREFIX, &key_of(from), limit)?;
        Ok(rows.into_iter().filter_map(|(_, stored)| Record::from_bytes(&stored.value)).collect())
    }

    /// Removes records older than `keep`, in one bounded step. Call it again while it says that it removed some.
    ///
    /// # Errors
    /// [`AuditError`] if the store cannot be read or written.
    pub async fn prune(&self, keep: Duration) -> Result<usize, AuditError> {
        let before = (self.clock.now() - keep).unix_millis();
        let rows = self.store.list_some(PREFIX, PRUNE_STEP)?;
        let old = |value: &[u8]| Record::from_bytes(value).is_none_or(|record| record.time < before);
        let keys: Vec<_> = rows.into_iter().take_while(|(_, s)| old(&s.value)).map(|(key, _)| key).collect();
        let Some(last) = keys.last() else { return Ok(0) };
        let mark = Write::Put { key: PRUNED.to_vec(), value: sequence_of(last)?.to_be_bytes().to_vec() };
        let removed = keys.len();
        let writes = keys.into_iter().map(|key| Write::Delete { key }).chain([mark]).collect();
        self.store.transact(Transaction { compares: Vec::new(), writes }).await?;
        Ok(removed)
    }
}

fn key_of(sequence: u64) -> Vec<u8> {
    [PREFIX, format!("{sequence:016x}").as_bytes()].concat()
}

fn sequence_of(key: &[u8]) -> Result<u64, AuditError> {
    let digits = key.strip_prefix(PREFIX).and_then(|d| str::from_utf8(d).ok());
    let foreign = || AuditError::ForeignKey { key: String::from_utf8_lossy(key).into_owned() };
    digits.and_then(|d| u64::from_str_radix(d, 16).ok()).ok_or_else(foreign)
}
