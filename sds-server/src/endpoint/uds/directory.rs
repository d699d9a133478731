//! Whether every directory on the way to a socket is safe from other users.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The mode of directories that we make: everybody may pass, nobody else may write.
const MODE: u32 = 0o755;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why a directory cannot hold a socket that others rely on.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Its owner could replace what lies in it.
    #[error(
        "{path:?} belongs to user {owner}, who could replace the socket: it must belong to root or to us"
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others could replace what lies in it.
    #[error(
        "{path:?} (mode {mode:o}) is writable by others, who could replace the socket: \
         chmod go-w it, or choose another directory"
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is something else.
    #[error("{path:?} is not a directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be made or looked at.
    #[error("cannot {operation} the directory {path:?}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Makes `directory` if it is missing, and gives it without symlinks once every directory down to it has
/// been found to belong to root or to us, and to be closed to others.
pub(super) fn trusted(directory: &Path) -> Result<PathBuf, DirectoryError> {
    make(directory)?;
    let real = fs::canonicalize(directory).map_err(failed("resolve", directory))?;
    check(&real, Some(&real))?;
    Ok(real)
}

/// Looks for what would have a socket in `directory` refused, and makes nothing: of a directory that is missing,
/// those above it are looked at.
///
/// # Errors
/// [`DirectoryError`].
pub fn look_at(directory: &Path) -> Result<(), DirectoryError> {
    let there = directory.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let real = fs::canonicalize(there).map_err(failed("resolve", there))?;
    check(&real, Some(real.as_path()).filter(|_| there == directory))
}

/// Checks `real` and all above it; `last` is to hold the socket itself.
fn check(real: &Path, last: Option<&Path>) -> Result<(), DirectoryError> {
    let us = rustix::process::geteuid().as_raw();
    for ancestor in real.ancestors() {
        let found = fs::symlink_metadata(ancestor).map_err(failed("look at", ancestor))?;
        let path = ancestor.to_owned();
        if !found.is_dir() {
            return Err(DirectoryError::NotADirectory { path });
        }
        if found.uid() != 0 && found.uid() != us {
            return Err(DirectoryError::Owner { path, owner: found.uid() });
        }
        let mode = found.mode() & 0o7777;
        // In a sticky directory others cannot rename or remove what is not theirs, and the one below it is
        // ours or root's. The last one holds the socket itself, and gets no such grace.
        let is_sticky_above = mode & STICKY != 0 && Some(ancestor) != last;
        if mode & WRITABLE_BY_OTHERS != 0 && !is_sticky_above {
            return Err(DirectoryError::Writable { path, mode });
        }
    }
    Ok(())
}

/// Makes the directories that are missing, each with [`MODE`] whatever the umask: a directory that callers
/// cannot pass would hide the socket.
fn make(directory: &Path) -> Result<(), DirectoryError> {
    if directory.exists() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make(parent)?;
    }
    match DirBuilder::new().mode(MODE).create(directory) {
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(MODE))
            .map_err(failed("set the mode of", directory)),
        // Somebody else made it meanwhile; it is looked at like any other.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("make", directory)(error)),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    move |source| DirectoryError::Io { operation, path: path.to_owned(), source }
}
