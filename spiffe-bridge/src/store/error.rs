//! What can go wrong with the store, and what to do then.

use std::path::PathBuf;
use std::sync::Arc;

use super::Compare;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A comparison did not hold. Nothing of the transaction was written.
    #[error("the store has changed meanwhile ({compare:?} does not hold): read again and retry")]
    Conflict {
        /// The first one that did not hold.
        compare: Compare,
    },
    /// Another process has the file open.
    #[error(
        "{path} is in use by another process: stop that one, have the new server take its place (serve --takeover), or use another data directory"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// The file was written by a newer version.
    #[error(
        "{path} is of format {found}, and this version reads up to {known}: run the newer version, or restore a backup"
    )]
    NewerFormat {
        /// The file.
        path: String,
        /// Its format.
        found: u64,
        /// The newest format that is understood.
        known: u64,
    },
    /// The file could not be made or opened.
    #[error("cannot open the store {path}: check that the directory exists and is ours to write")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The file is not a store, or is damaged.
    #[error("cannot use the store {path}: restore it from a backup if it is damaged")]
    Unusable {
        /// The file.
        path: String,
        /// What redb said.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The file could not be read.
    #[error("cannot read the store: check the disk")]
    Read {
        /// What redb said.
        #[source]
        source: Arc<redb::Error>,
    },
    /// A write failed, now or earlier, and whether the transaction was written is unknown. Nothing more is written before a restart.
    #[error(
        "writing the store failed, and it takes no more writes: check the disk (space, errors), then restart"
    )]
    Write {
        /// What redb said of the first write that failed.
        #[source]
        source: Arc<redb::Error>,
    },
    /// More bytes than one transaction may have.
    #[error("a transaction of {bytes} bytes: at most {} are taken, split it", super::MAX_TRANSACTION_BYTES)]
    TooLarge {
        /// Its keys and values.
        bytes: usize,
    },
    /// The writer has ended: the server is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn read(source: redb::Error) -> Self {
        Self::Read { source: Arc::new(source) }
    }
}
