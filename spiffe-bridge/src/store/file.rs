//! The file: made private, locked, and of a format that we know.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableTable, TableDefinition};

use super::StoreError;
use super::filled::Filled;
use crate::identity::Revision;

/// Key → (revision of its last change, value).
pub(super) const VALUES: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("values");
/// Facts about the store itself.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const REVISION: &str = "revision";
const FORMAT: &str = "format";

/// The format that is written. Raise it in two phases: first read the new one, a version later write it.
const WRITTEN_FORMAT: u64 = 1;
/// The newest format that is understood.
const KNOWN_FORMAT: u64 = 1;

/// redb's own default is 1 GiB.
const CACHE_BYTES: usize = 64 << 20;

pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Opens or makes the file. redb locks it.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    let failed = |e| StoreError::Open { path: path.to_owned(), source: Arc::new(e) };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(failed)?;
    if file.metadata().map_err(failed)?.len() == 0 {
        // The directory entry must be as durable as what is going to be in the file.
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    let name = path.display().to_string();
    let backend = FileBackend::new(file).map_err(|e| refused(&name, e))?;
    builder().create_with_backend(Filled::new(backend)).map_err(|e| refused(&name, e))
}

pub(super) fn refused(name: &str, error: DatabaseError) -> StoreError {
    let path = name.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { path }
        }
        other => StoreError::Unusable { path, source: Arc::new(other.into()) },
    }
}

/// Checks the format, or writes it into a new file, and returns the revision at which the store stands.
pub(super) fn prepare(db: &Database, name: &str) -> Result<Revision, StoreError> {
    let (format, revision) = read_or_write_meta(db)
        .map_err(|e| StoreError::Unusable { path: name.to_owned(), source: Arc::new(e) })?;
    if format > KNOWN_FORMAT {
        return Err(StoreError::NewerFormat { path: name.to_owned(), found: format, known: KNOWN_FORMAT });
    }
    Ok(Revision(revision))
}

fn read_or_write_meta(db: &Database) -> Result<(u64, u64), redb::Error> {
    let transaction = db.begin_write()?;
    let (format, revision) = {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get(FORMAT)?.map(|v| v.value());
        if format.is_none() {
            meta.insert(FORMAT, WRITTEN_FORMAT)?;
        }
        let revision = meta.get(REVISION)?.map_or(0, |v| v.value());
        (format, revision)
    };
    if format.is_none() {
        transaction.open_table(VALUES)?;
        transaction.commit()?;
    } else {
        transaction.abort()?; // An old file, or one of a newer format: leave it as it is.
    }
    Ok((format.unwrap_or(WRITTEN_FORMAT), revision))
}
