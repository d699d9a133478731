//! The data directory: made once and on purpose, locked, readable by nobody else.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spiffe_bridge::authority::{self, InitError};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::keys::{self, DiskKeys, KeyManager};
use spiffe_bridge::store::{self, Store, Writer};

use crate::config::Settings;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It is a file.
    #[error("{path} is not a directory: give the data directory, or move that file away")]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// Nothing was ever kept there.
    #[error(
        "the data directory {path} was never used: run `countersign init`, or give --init, to make a new root in it; if it should hold data, its volume is missing"
    )]
    NeverUsed {
        /// The directory.
        path: PathBuf,
    },
    /// The root is there and its key is not.
    #[error(
        "the key directory {path} is gone: restore it from the backup of this data directory. The root in the store cannot sign without it; a new root, in another data directory, cuts off all who trust this one"
    )]
    KeysLost {
        /// The directory.
        path: PathBuf,
    },
    /// The keys are there and the store is not.
    #[error(
        "{path} holds keys and no store: the store is lost, or its volume is missing. Restore both from the backup of this data directory. A new root cuts off all who trust the one before: if that is meant, use another data directory"
    )]
    StoreLost {
        /// The directory.
        path: PathBuf,
    },
    /// It was used before.
    #[error("the data directory {path} is initialised already: nothing was changed")]
    AlreadyInitialised {
        /// The directory.
        path: PathBuf,
    },
    /// Others could put something in it.
    #[error(
        "the data directory {path} has mode {mode:04o}: others must not write to it; run chmod 0700 {path}"
    )]
    Mode {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It cannot be made or looked at.
    #[error("cannot use the data directory {path}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

const STORE: &str = "store.redb";
const KEYS: &str = "keys";

/// The opened data directory.
pub(super) struct Data {
    pub(super) store: Store,
    /// Ends when the last handle of the store is dropped; then everything is on disk.
    pub(super) writer: std::thread::JoinHandle<()>,
    pub(super) keys: Arc<dyn KeyManager>,
}

impl Data {
    /// Opens the directory of an initialised server; with `init` makes it if it was never used.
    pub(super) fn open(settings: &Settings, init: bool) -> anyhow::Result<Self> {
        let path = settings.data.as_path();
        if path.exists() && !path.is_dir() {
            return Err(DataError::NotADirectory { path: path.into() }.into());
        }
        if !is_used(path) {
            // The store is made before any key.
            let holds_keys = keys::are_there_any(&path.join(KEYS));
            if holds_keys.map_err(|source| DataError::Io { path: path.join(KEYS), source })? {
                return Err(DataError::StoreLost { path: path.into() }.into());
            }
            if !init {
                return Err(DataError::NeverUsed { path: path.into() }.into());
            }
            make(path)?;
        }
        check(path)?;
        let (store, writer) = store::open(&path.join(STORE))?;
        let writer = spawn(writer)?;
        let directory = path.join(KEYS);
        // Made with the root and never again: an empty one beside an old root would look like a fresh start.
        if !directory.exists() && authority::trust_domain_of(&store)?.is_some() {
            return Err(DataError::KeysLost { path: directory }.into());
        }
        let keys = Arc::new(DiskKeys::open(directory)?);
        Ok(Self { store, writer, keys })
    }

    /// Makes the root if there is none.
    pub(super) async fn init(&self, config: &authority::Config, clock: &Clock) -> Result<(), InitError> {
        match authority::init(config, self.keys.clone(), &self.store, clock).await {
            Err(InitError::AlreadyInitialised) => Ok(()),
            Ok(()) => {
                tracing::warn!(
                    trust_domain = config.trust_domain.as_str(),
                    "a new root was made, as nothing was kept yet: who trusts an earlier one of this trust domain is cut off"
                );
                Ok(())
            }
            other => other,
        }
    }

    /// Waits until all that was written is on disk. Every handle of the store must be dropped by then.
    pub(super) fn close(self) {
        let Self { store, writer, .. } = self;
        drop(store);
        if writer.join().is_err() {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Makes the data directory and the root in it, and nothing else: `countersign init`.
///
/// # Errors
/// [`DataError::AlreadyInitialised`] if there is a root already, and whatever keeps it from being made.
pub async fn initialise(settings: &Settings) -> anyhow::Result<()> {
    let data = Data::open(settings, true)?;
    let config = settings.authority();
    let made = authority::init(&config, data.keys.clone(), &data.store, &Clock::system()).await;
    data.close();
    match made {
        Err(InitError::AlreadyInitialised) => {
            Err(DataError::AlreadyInitialised { path: settings.data.clone() }.into())
        }
        other => Ok(other?),
    }
}

/// A directory without a store was never used; what else is in it is not ours to judge.
fn is_used(path: &Path) -> bool {
    path.join(STORE).exists()
}

fn make(path: &Path) -> Result<(), DataError> {
    let failed = |source| DataError::Io { path: path.into(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(failed),
    }
}

fn check(path: &Path) -> Result<(), DataError> {
    let meta = fs::metadata(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    let mode = meta.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(DataError::Mode { path: path.into(), mode });
    }
    Ok(())
}

fn spawn(writer: Writer) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("store".into()).spawn(move || writer.run())
}
