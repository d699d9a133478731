//! The audit log: each issuance and each decision has its record before the answer goes out (invariant 5).
//!
//! Records are JSON, a line each, those that are written together in one row under
//! `audit/<sequence of its last, 16 hex digits>`. Sequence numbers rise by one with each record, over restarts too, and
//! are never used twice; those that were reserved and not written leave a gap. Rows become durable in the order of their
//! numbers: whoever follows the log by the last that it has seen misses none.

use std::sync::{Arc, Mutex, PoisonError};
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
/// The most bytes in a row, a longer record apart. Thousands of records a second cost much less so than in a row each;
/// whoever looks for one reads few others. The store has pages of twice the size one after the other: with its key such a
/// row just fits one of 32 KiB.
const ROW: usize = 31 << 10;
/// The rows that are read at once: half a megabyte at the most that is usual.
const PAGE: usize = 16;
/// The most rows that one step of pruning removes, so that a signature never waits long behind it.
const PRUNE_STEP: usize = 64;

/// The log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    store: Store,
    clock: Clock,
    /// Held from the numbering of records until they stand in the store's line.
    next: Arc<Mutex<u64>>,
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
        let log = Self { store, clock, next: Arc::default() };
        let pruned = log.store.get(PRUNED)?.and_then(|v| <[u8; 8]>::try_from(v.value.as_slice()).ok());
        let next = log.last()?.map_or(0, |n| n + 1).max(pruned.map_or(0, |n| u64::from_be_bytes(n) + 1));
        Ok(Self { next: Arc::new(Mutex::new(next)), ..log })
    }

    /// Appends `events`, all or none, and returns once they are durable.
    ///
    /// # Errors
    /// [`AuditError::Store`]; the event must then not take effect.
    pub async fn append<D: Serialize>(&self, events: Vec<Event<D>>) -> Result<Revision, AuditError> {
        Ok(self.append_with(events, Transaction::default()).await?)
    }

    /// Appends `events` with `transaction`, both or neither, and returns once they are durable.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub async fn append_with<D: Serialize>(
        &self,
        events: impl IntoIterator<Item = Event<D>>,
        mut transaction: Transaction,
    ) -> Result<Revision, StoreError> {
        let events = events.into_iter().collect();
        let place = self.store.place().await?;
        let answer = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            transaction.writes.extend(self.writes(events, &mut next));
            place.take(transaction)?
        };
        answer.await
    }

    /// The rows of `events`, which are numbered from `sequence` on.
    fn writes<D: Serialize>(&self, events: Vec<Event<D>>, sequence: &mut u64) -> Vec<Write> {
        let time = self.clock.now().unix_millis();
        let (mut rows, mut row, mut line) = (Vec::new(), Vec::new(), Vec::new());
        let put = |last: u64, row: &mut Vec<u8>| Write::Put { key: key_of(last), value: std::mem::take(row) };
        for (left, event) in (1..=events.len()).rev().zip(events) {
            line.clear();
            Record { sequence: *sequence, time, event }.write_line(&mut line);
            if !row.is_empty() && row.len() + line.len() > ROW {
                rows.push(put(*sequence - 1, &mut row));
            }
            if row.is_empty() {
                row.reserve(ROW.min(left * event::USUAL_BYTES));
            }
            row.extend_from_slice(&line);
            *sequence += 1;
        }
        if !row.is_empty() {
            rows.push(put(*sequence - 1, &mut row));
        }
        rows
    }

    /// The records from `from` on, at most `limit` of them.
    ///
    /// # Errors
    /// [`AuditError::Store`] if the store cannot be read.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<Record>, AuditError> {
        let (mut records, mut start) = (Vec::new(), from);
        while records.len() < limit {
            let rows = self.store.list_from(PREFIX, &key_of(start), PAGE)?;
            let Some((last, _)) = rows.last() else { break };
            start = sequence_of(last)? + 1;
            let told = rows.iter().flat_map(|(_, row)| Record::lines(&row.value));
            records.extend(told.filter(|record| record.sequence >= from).take(limit - records.len()));
        }
        Ok(records)
    }

    /// The number of the last record that is durable, if there is any.
    ///
    /// # Errors
    /// As those of [`Log::read`].
    pub fn last(&self) -> Result<Option<u64>, AuditError> {
        self.store.last(PREFIX)?.map(|(key, _)| sequence_of(&key)).transpose()
    }

    /// Removes records older than `keep`, in one bounded step, and returns how many rows of them. Call it again while
    /// it says that it removed some.
    ///
    /// # Errors
    /// [`AuditError`] if the store cannot be read or written.
    pub async fn prune(&self, keep: Duration) -> Result<usize, AuditError> {
        let before = (self.clock.now() - keep).unix_millis();
        let rows = self.store.list_some(PREFIX, PRUNE_STEP)?;
        // All of a row were written at one time.
        let old = |value: &[u8]| Record::lines(value).next().is_none_or(|record| record.time < before);
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
