//! Binds a Unix socket where only we can have put it, and removes it if it is still ours.
//!
//! Whoever could replace the socket, or a directory above it, could hand workloads another trust bundle. So
//! every directory on the way must belong to root or to us and not be writable by others (`directory`).
//! A sticky directory such as /tmp is good enough above the last one: others can add names there, but not
//! touch ours. Absent: abstract sockets, which have no owner, no mode and no directory.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use tokio::net::{UnixListener, UnixStream};

use super::sockets::Sockets;

mod directory;

pub use directory::{DirectoryError, look_at};

/// Connections that the kernel holds for us while we are busy; more are told to try again.
const BACKLOG: i32 = 1024;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path is not one that a socket can have.
    #[error("{path:?} cannot be a socket's path: {why}")]
    Path {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A directory on the way cannot be trusted.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Somebody answers there.
    #[error("another server is running on {path:?}: stop it, or choose another socket")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is something else at the path.
    #[error("{path:?} is {what}, not a socket: remove it, or choose another socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What lies there.
        what: &'static str,
    },
    /// The system refused.
    #[error("cannot {operation} {path:?}")]
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

/// A bound socket that accepts connections. Its file goes when this is dropped, as [`SocketFile`] has it.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    file: SocketFile,
}

/// A socket's file: it goes when this is dropped, unless it is somebody else's by then.
#[derive(Debug)]
pub struct SocketFile {
    standing: Standing,
    others: Others,
}

/// Whether a socket's file is somebody else's to remove: systemd's, or that of a server which takes our place or whose
/// place we take. Cheap to clone; all clones say the same.
#[derive(Debug, Clone, Default)]
pub struct Others(Arc<AtomicBool>);

impl Others {
    /// From now on the file is left where it is.
    pub fn leave(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// From now on the file is ours.
    pub fn take(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Who tells whether the socket's file is still the one that callers reach us by. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Standing {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Why new callers do not reach us by the socket's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Displaced {
    /// Nothing is there.
    #[error("it is gone")]
    Gone,
    /// A link is there: it may lead to whatever socket.
    #[error("a symlink is in its place")]
    Symlink,
    /// Another file is there, perhaps another server's socket.
    #[error("another file is in its place")]
    Replaced,
}

impl Standing {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with the file, if anything.
    #[must_use]
    pub fn look(&self) -> Option<Displaced> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => None,
            Ok(found) if found.is_symlink() => Some(Displaced::Symlink),
            Ok(_) => Some(Displaced::Replaced),
            Err(_) => Some(Displaced::Gone),
        }
    }
}

impl Listener {
    /// Binds `path` with `mode`, in a directory that is made (0755) if it is missing. Nobody can connect
    /// before the mode is set, whatever the umask. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let path = resolve(path)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        // Held until we listen: two servers that start together must not both find the same stale file.
        let lock = fs::File::open(directory).map_err(failed("open", directory))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(errno("lock", directory))?;
        remove_stale(&path)?;

        let address = SocketAddrUnix::new(&path).map_err(errno("use", &path))?;
        let socket = stream_socket(&path)?;
        // Inherited by each connection: who wrote a byte is known from the first one on.
        set_socket_passcred(&socket, true).map_err(errno("ask for credentials on", &path))?;
        bind(&socket, &address).map_err(errno("bind", &path))?;
        // Between bind and listen a connect is refused, so that no one slips in under the umask's mode.
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(failed("set the mode of", &path))?;
        listen(&socket, BACKLOG).map_err(errno("listen on", &path))?;

        Self::over(StdListener::from(socket), path)
    }

    /// The socket of `handed` that is bound to `path`, or a new one. What was handed over keeps its mode, and its file
    /// is not ours to remove: see [`Listener::others`].
    ///
    /// # Errors
    /// [`BindError`].
    pub fn open(path: &Path, mode: u32, handed: &mut Sockets) -> Result<Self, BindError> {
        let resolved = resolve(path)?;
        let Some(listener) = handed.unix(&resolved) else { return Self::bind(path, mode) };
        let adopted = Self::over(listener, resolved)?;
        adopted.file.others.leave();
        Ok(adopted)
    }

    fn over(listener: StdListener, path: PathBuf) -> Result<Self, BindError> {
        let found = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
        let (device, inode) = (found.dev(), found.ino());
        let listener = UnixListener::from_std(listener).map_err(failed("listen on", &path))?;
        Ok(Self {
            listener,
            file: SocketFile { standing: Standing { path, device, inode }, others: Others::default() },
        })
    }

    /// The same socket once more, for a successor.
    ///
    /// # Errors
    /// If no file is left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// Who watches over its file.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.file.standing.clone()
    }

    /// Whose the file is.
    #[must_use]
    pub fn others(&self) -> Others {
        self.file.others.clone()
    }

    /// The socket without the runtime, which is no longer woken for each that comes, and what removes its file in the end.
    ///
    /// # Errors
    /// The runtime does not give it back.
    pub fn unwatched(self) -> io::Result<(OwnedFd, SocketFile)> {
        Ok((self.listener.into_std()?.into(), self.file))
    }

    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// Those of accept(2): most pass, `EMFILE` for instance.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Where it is bound, without symlinks.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.standing.path()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have replaced it since: that one's file stays.
        let ours = self.standing.look().is_none() && !self.others.0.load(Ordering::Relaxed);
        if ours && let Err(error) = fs::remove_file(self.standing.path()) {
            tracing::warn!(path = %self.standing.path().display(), %error, "the socket could not be removed");
        }
    }
}

/// The path with its directory made, trusted, and free of symlinks.
fn resolve(path: &Path) -> Result<PathBuf, BindError> {
    let wrong = |why| BindError::Path { path: path.to_owned(), why };
    if path.as_os_str().as_encoded_bytes().first().is_some_and(|byte| matches!(byte, b'@' | 0)) {
        return Err(wrong("abstract sockets have no owner and no directory, and are not supported"));
    }
    let name = path.file_name().ok_or_else(|| wrong("it has no file name"))?;
    let absolute = std::path::absolute(path).map_err(failed("make absolute", path))?;
    let directory = absolute.parent().ok_or_else(|| wrong("it has no directory"))?;
    let resolved = directory::trusted(directory)?.join(name);
    if SocketAddrUnix::new(&resolved).is_err() {
        return Err(wrong("a socket's path has at most 107 bytes: choose a shorter one"));
    }
    Ok(resolved)
}

/// Makes room for our socket: a file that nobody listens on is removed, all else is refused.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
    };
    if !found.is_socket() {
        let what = match () {
            () if found.is_symlink() => "a symlink",
            () if found.is_dir() => "a directory",
            () => "a file",
        };
        return Err(BindError::NotASocket { path: path.to_owned(), what });
    }
    let address = SocketAddrUnix::new(path).map_err(errno("use", path))?;
    match connect(&stream_socket(path)?, &address) {
        // AGAIN: its backlog is full, so that somebody listens.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Err(BindError::InUse { path: path.to_owned() }),
        Err(rustix::io::Errno::CONNREFUSED) => {
            tracing::info!(path = %path.display(), "replacing a socket that nobody listens on");
            fs::remove_file(path).map_err(failed("remove", path))
        }
        Err(error) => Err(errno("try", path)(error)),
    }
}

fn stream_socket(path: &Path) -> Result<OwnedFd, BindError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(errno("make a socket for", path))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    move |source| BindError::Io { operation, path: path.to_owned(), source }
}

fn errno(operation: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> BindError {
    move |errno| BindError::Io { operation, path: path.to_owned(), source: errno.into() }
}
