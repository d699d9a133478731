//! The task that keeps the index: follows the store, publishes each new [`EntryIndex`].

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::index::{self, EntryIndex};
use super::stored::{self, Form, StoredError};
use crate::identity::{Revision, TrustBundle, TrustDomain};
use crate::store::{Changes, Store, StoreError, Stored, Watch};
use crate::x509::crl;

/// Keeps the index as the store has it.
#[derive(Debug)]
pub struct Indexer {
    store: Store,
    watch: Watch,
    files: BTreeMap<Arc<str>, Form>,
    /// As published: one that did not change stays the same value.
    bundles: BTreeMap<TrustDomain, Arc<TrustBundle>>,
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
        let mut indexer = Self {
            store,
            watch,
            files: BTreeMap::new(),
            bundles: BTreeMap::new(),
            revision: Revision(0),
            index,
        };
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
            files.insert(file.clone(), sorted(stored::decode(&value.value, &file)?));
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
            Ok(form) => drop(self.files.insert(file, sorted(form))),
            Err(error) => tracing::error!(%error, "entries are kept as they were"),
        }
    }

    fn publish(&mut self) {
        let mut bundles = BTreeMap::new();
        for declared in self.files.values().flat_map(|form| &form.federated) {
            let domain = &declared.trust_domain;
            let kept = self.bundles.get(domain).filter(|bundle| {
                bundle.roots == declared.roots
                    && bundle.crls == declared.crls
                    && bundle.tokens == declared.tokens
            });
            let bundle = kept.cloned().unwrap_or_else(|| {
                let (roots, tokens) = (declared.roots.clone(), declared.tokens.clone());
                let bundle = TrustBundle::new(domain.clone(), roots, self.revision);
                Arc::new(bundle.with_tokens(tokens).with_crls(declared.crls.clone()))
            });
            bundles.insert(domain.clone(), bundle);
        }
        self.bundles = bundles;
        let entries = self.files.values().flat_map(|form| &form.entries).cloned();
        let profiles = self.files.values().flat_map(|form| &form.profiles).cloned();
        let index = EntryIndex::new(self.revision, entries)
            .with_bundles(self.bundles.values().cloned())
            .with_profiles(profiles);
        let end = self.bundles.values().filter_map(|bundle| crl::first_end(bundle)).min();
        metrics::gauge!("countersign_crl_not_after_timestamp_seconds")
            .set(end.map_or(0.0, |end| end.unix_seconds() as f64));
        metrics::gauge!("countersign_trust_domains").set(self.bundles.len() as f64);
        metrics::gauge!("countersign_entries").set(index.len() as f64);
        self.index.send_replace(Arc::new(index));
    }
}

/// A form in the order of the index, which is made anew with each change: only the file that changed is sorted then.
fn sorted(mut form: Form) -> Form {
    index::sort(&mut form.entries);
    form
}
