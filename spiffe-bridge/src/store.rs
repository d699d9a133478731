//! Bytes under keys, in one file: read, transact, watch. What the bytes mean is their owner's business.
//!
//! ```text
//! transact ─► bounded queue ─► Writer: one redb transaction, one fsync for all that wait ─► history ─► Watch
//!                                    get, list ◄── redb snapshot ◄──┘
//! ```
//!
//! - Each transaction that writes raises the [`Revision`] by one, is judged by itself, and is
//!   durable when [`Store::transact`] returns. The revision never goes back.
//! - A watcher has no queue: it reads a bounded history of changes at its own pace, and is told to
//!   list again ([`Changes::Lagged`]) when that has run ahead of it.
//! - After a failed write nothing more is written until a restart, since what is on the disk is then unknown.
//! - Nothing is spawned here: the composition root runs the [`Writer`] on a thread of its own.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot, watch};

use crate::identity::Revision;

mod error;
mod file;
mod filled;
mod history;
mod writer;

pub use error::StoreError;
pub use history::{Changes, Watch};
pub use writer::Writer;

use file::VALUES;
use history::History;
use writer::Job;

/// Transactions that wait for the disk. A caller beyond that waits for a place, which is its back-pressure.
const QUEUE: usize = 1024;

/// The most that the keys and values of one transaction may take.
pub const MAX_TRANSACTION_BYTES: usize = 16 << 20;

/// A handle on the store. Cheap to clone; the [`Writer`] ends when all are dropped.
#[derive(Clone)]
pub struct Store {
    db: Arc<Database>,
    jobs: mpsc::Sender<Job>,
    history: Arc<History>,
    revisions: watch::Receiver<Revision>,
}

/// A place in the line of transactions.
#[derive(Debug)]
pub struct Place<'s>(mpsc::Permit<'s, Job>);

impl Place<'_> {
    /// Has `transaction` stand here, before all that take a place later. What is returned ends as [`Store::transact`] does;
    /// the transaction is carried out whether it is waited for or not.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], and the place is free again.
    pub fn take(
        self,
        transaction: Transaction,
    ) -> Result<impl Future<Output = Result<Revision, StoreError>> + Send + use<>, StoreError> {
        let bytes = transaction.bytes();
        if bytes > MAX_TRANSACTION_BYTES {
            return Err(StoreError::TooLarge { bytes });
        }
        let (answer, answered) = oneshot::channel();
        self.0.send(Job { transaction, answer });
        Ok(async { answered.await.map_err(|_| StoreError::Closed)? })
    }
}

/// A value and the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The bytes.
    pub value: Vec<u8>,
    /// When it was last written.
    pub revision: Revision,
}

/// A condition on what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Nothing is stored under the key.
    Absent(Vec<u8>),
    /// The value under the key was last written at this revision.
    Revision(Vec<u8>, Revision),
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Stores `value` under `key`, in place of what was there.
    Put {
        /// Where.
        key: Vec<u8>,
        /// What.
        value: Vec<u8>,
    },
    /// Removes what is stored under `key`, if anything.
    Delete {
        /// Where.
        key: Vec<u8>,
    },
}

/// Writes that happen all or none, and only if every comparison holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is then done, in this order.
    pub writes: Vec<Write>,
}

/// Opens the store in the file at `path`, or makes it (mode 0600) if there is none, and locks it.
/// A new store stands at revision 0.
///
/// # Errors
/// [`StoreError`] if the file cannot be opened, is in use, is damaged, or is of a newer format.
pub fn open(path: &Path) -> Result<(Store, Writer), StoreError> {
    over(file::open(path)?, &path.display().to_string())
}

/// A store that lives in memory, for tests and trials.
///
/// # Errors
/// [`StoreError`] if redb refuses to start.
pub fn in_memory() -> Result<(Store, Writer), StoreError> {
    with_backend(redb::backends::InMemoryBackend::new())
}

/// A store over another back end: tests inject faults here.
///
/// # Errors
/// As [`open`].
pub fn with_backend(backend: impl redb::StorageBackend) -> Result<(Store, Writer), StoreError> {
    let db = file::builder().create_with_backend(backend);
    over(db.map_err(|e| file::refused("the store's back end", e))?, "the store's back end")
}

fn over(db: Database, name: &str) -> Result<(Store, Writer), StoreError> {
    let revision = file::prepare(&db, name)?;
    let db = Arc::new(db);
    let history = Arc::new(History::starting_at(revision));
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (publisher, revisions) = watch::channel(revision);
    let writer = Writer::new(db.clone(), queue, history.clone(), publisher);
    Ok((Store { db, jobs, history, revisions }, writer))
}

impl Store {
    /// What is stored under `key`.
    ///
    /// # Errors
    /// [`StoreError::Read`] if the file cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.db.begin_read()?.open_table(VALUES)?;
            Ok(table.get(key)?.map(|found| stored(found.value())))
        };
        read().map_err(StoreError::read)
    }

    /// All keys that start with `prefix` and their values, in the order of the keys, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::Read`] if the file cannot be read.
    pub fn list(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Stored)>, StoreError> {
        self.list_some(prefix, usize::MAX)
    }

    /// As [`Store::list`], but the first `limit` of them only.
    ///
    /// # Errors
    /// [`StoreError::Read`] if the file cannot be read.
    pub fn list_some(&self, prefix: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Stored)>, StoreError> {
        self.list_from(prefix, prefix, limit)
    }

    /// As [`Store::list_some`], but from the key `start` on: a page.
    ///
    /// # Errors
    /// [`StoreError::Read`] if the file cannot be read.
    pub fn list_from(
        &self,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Stored)>, StoreError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.db.begin_read()?.open_table(VALUES)?;
            let end = after(prefix);
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut rows = Vec::new();
            if !start.starts_with(prefix) && start > prefix {
                return Ok(rows); // Behind all that has the prefix; redb refuses a range that runs backwards.
            }
            for row in table.range::<&[u8]>((Bound::Included(start.max(prefix)), end))?.take(limit) {
                let (key, value) = row?;
                rows.push((key.value().to_vec(), stored(value.value())));
            }
            Ok(rows)
        };
        read().map_err(StoreError::read)
    }

    /// The last key that starts with `prefix`, and its value.
    ///
    /// # Errors
    /// [`StoreError::Read`] if the file cannot be read.
    pub fn last(&self, prefix: &[u8]) -> Result<Option<(Vec<u8>, Stored)>, StoreError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.db.begin_read()?.open_table(VALUES)?;
            let end = after(prefix);
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let row = table.range::<&[u8]>((Bound::Included(prefix), end))?.next_back().transpose()?;
            Ok(row.map(|(k, v)| (k.value().to_vec(), stored(v.value()))))
        };
        read().map_err(StoreError::read)
    }

    /// Carries out `transaction`, and returns the revision that it made once it is durable. One that
    /// writes nothing makes no revision: it returns that at which its comparisons held.
    ///
    /// If the future is dropped, the transaction may still be carried out.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a comparison does not hold, and nothing was written;
    /// [`StoreError::Write`] if the disk failed: whether it was written is then unknown;
    /// [`StoreError::Closed`] if the writer has ended.
    pub async fn transact(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        self.place().await?.take(transaction)?.await
    }

    /// The next place in the line that is free: for whoever must know that nobody comes between what it decides and its
    /// transaction, and cannot wait in between.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if the writer has ended.
    pub async fn place(&self) -> Result<Place<'_>, StoreError> {
        self.jobs.reserve().await.map(Place).map_err(|_| StoreError::Closed)
    }

    /// The newest revision that is durable. What is read afterwards is at least as new.
    #[must_use]
    pub fn revision(&self) -> Revision {
        *self.revisions.borrow()
    }

    /// Follows the changes after `from` under `prefix`. Take [`Store::revision`] first, then list,
    /// then watch from that revision: nothing is missed, though something may be seen twice.
    #[must_use]
    pub fn watch(&self, prefix: &[u8], from: Revision) -> Watch {
        Watch::new(prefix.to_vec(), from, self.history.clone(), self.revisions.clone())
    }
}

impl Transaction {
    /// What its keys and values take.
    fn bytes(&self) -> usize {
        let compares = self.compares.iter().map(|c| match c {
            Compare::Absent(key) | Compare::Revision(key, _) => key.len(),
        });
        let writes = self.writes.iter().map(|w| match w {
            Write::Put { key, value } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        });
        compares.chain(writes).sum()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

fn stored((revision, value): (u64, &[u8])) -> Stored {
    Stored { value: value.to_vec(), revision: Revision(revision) }
}

/// The first key after all that start with `prefix`; `None` if there is none such.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}
