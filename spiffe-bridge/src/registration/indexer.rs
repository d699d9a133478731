//! The task that keeps the index: follows the store, publishes each new [`EntryIndex`].

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::stored::{self, StoredError};
use super::{Entry, EntryIndex};
use crate::identity::Revision;
use crate::store::{Changes, Store, StoreError, Stored, Watch};

/// Keeps the index as the store has it.
#[derive(Debug)]
pub struct Indexer {
    store: Store,
    watch: Watch,
    files: BTreeMap<Arc<str>, Vec<Arc<Entry>>>,
    revision: Revision,
    index: watch::Sender<Arc<EntryIndex>>,
}

/// Why the index cannot be kept.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The store failed.
    #[error("cannot read the entries from the store")]
    Store(#[from] StoreError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Stored(#[from] StoredError),
}

impl Indexer {
    /// Reads the entries that the store holds; the receiver has them at once. Run the task to keep them fresh.
    ///
    /// # Errors
    /// [`IndexError`]: to start without entries that exist would take away their credentials.
    pub fn load(store: Store) -> Result<(Self, watch::Receiver<Arc<EntryIndex>>), IndexError> {
        let (index, receiver) = watch::channel(Arc::default());
        let watch = store.watch(stored::ALL, store.revision());
        let mut indexer = Self { store, watch, files: BTreeMap::new(), revision: Revision(0), index };
        indexer.list()?;
        indexer.publish();
        Ok((indexer, receiver))
    }

    /// Follows the store until drained.
    ///
    /// # Errors
    /// [`IndexError::Store`] if the store is closed or cannot be read any more.
    pub async fn run(mut self, drain: CancellationToken) -> Result<(), IndexError> {
        loop {
            let changes = tokio::select! {
                () = drain.cancelled() => return Ok(()),
                changes = self.watch.next() => changes?,
            };
            match changes {
                Changes::Since { changed, .. } => {
                    changed.into_iter().for_each(|(key, value)| self.apply(&key, value));
                }
                Changes::Lagged { .. } => self.list()?,
            }
            self.publish();
        }
    }

    fn list(&mut self) -> Result<(), IndexError> {
        let mut files = BTreeMap::new();
        for (key, value) in self.store.list(stored::ALL)? {
            self.revision = self.revision.max(value.revision);
            let Some(file) = stored::file_of(&key) else { continue };
            files.insert(file.clone(), stored::decode(&value.value, &file)?);
        }
        self.files = files;
        Ok(())
    }

    /// A form that cannot be read leaves the file's entries as they are (invariant 3).
    fn apply(&mut self, key: &[u8], value: Option<Stored>) {
        self.revision = value.as_ref().map_or(self.revision, |v| self.revision.max(v.revision));
        let Some(file) = stored::file_of(key) else { return };
        let Some(value) = value else {
            self.files.remove(&file);
            return;
        };
        match stored::decode(&value.value, &file) {
            Ok(entries) => drop(self.files.insert(file, entries)),
            Err(error) => tracing::error!(%error, "entries are kept as they were"),
        }
    }

    fn publish(&self) {
        let index = EntryIndex::new(self.revision, self.files.values().flatten().cloned());
        metrics::gauge!("countersign_entries").set(index.len() as f64);
        self.index.send_replace(Arc::new(index));
    }
}
