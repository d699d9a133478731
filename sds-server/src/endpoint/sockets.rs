//! Listening sockets that somebody else made: systemd, or the server whose place this one takes. Each is looked at
//! before it is believed: what it is, and where it listens.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// Who made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// It keeps them, and their files: the next start gets them again.
    Systemd,
    /// A server like this one, which leaves their files to its successor; or this one.
    Server,
}

/// Why sockets that were handed over are not served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It is something else.
    #[error(
        "what was handed over as number {number} is no listening stream socket: hand over those of `socket`, `remote.listen` and `broker.socket`"
    )]
    NotListening {
        /// Counted from 1.
        number: usize,
    },
    /// Nothing is configured for it.
    #[error(
        "a socket was handed over that listens on {address}, where the configuration has none: make the two agree"
    )]
    Unasked {
        /// Where it listens.
        address: String,
    },
    /// The API socket is not among them.
    #[error(
        "no socket was handed over that listens on {path:?}: use the same `socket` as the running server"
    )]
    Lacks {
        /// Where it should listen.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("a socket that was handed over cannot be looked at")]
    Io(#[from] io::Error),
}

/// Sockets that wait for their doors.
#[derive(Debug)]
pub struct Sockets {
    maker: Maker,
    unix: Vec<(PathBuf, UnixListener)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
}

impl Sockets {
    /// Looks at `sockets`, which `maker` made. None is what an ordinary start has.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn check(sockets: Vec<OwnedFd>, maker: Maker) -> Result<Self, SocketError> {
        let maker = if sockets.is_empty() { Maker::Server } else { maker };
        let (mut unix, mut tcp) = (Vec::new(), Vec::new());
        for (number, socket) in (1..).zip(sockets) {
            let fd = socket.as_fd();
            let is_stream = socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM);
            if !is_stream || !socket_acceptconn(fd).unwrap_or(false) {
                return Err(SocketError::NotListening { number });
            }
            match socket_domain(fd).map_err(io::Error::from)? {
                AddressFamily::UNIX => {
                    let listener = UnixListener::from(socket);
                    let address = listener.local_addr()?;
                    let path = address.as_pathname().ok_or(SocketError::NotListening { number })?;
                    listener.set_nonblocking(true)?;
                    unix.push((path.to_owned(), listener));
                }
                AddressFamily::INET | AddressFamily::INET6 => {
                    let listener = TcpListener::from(socket);
                    listener.set_nonblocking(true)?;
                    tcp.push((listener.local_addr()?, listener));
                }
                _ => return Err(SocketError::NotListening { number }),
            }
        }
        Ok(Self { maker, unix, tcp })
    }

    /// Who made them.
    #[must_use]
    pub fn maker(&self) -> Maker {
        self.maker
    }

    /// Finds out whether the one whose file is `path` is there.
    ///
    /// # Errors
    /// [`SocketError::Lacks`].
    pub fn require(&self, path: &Path) -> Result<(), SocketError> {
        let same = |bound: &Path| {
            bound.canonicalize().ok().is_some_and(|bound| path.canonicalize().is_ok_and(|path| path == bound))
        };
        let is_there = self.unix.iter().any(|(bound, _)| same(bound));
        if is_there { Ok(()) } else { Err(SocketError::Lacks { path: path.to_owned() }) }
    }

    /// Takes the one whose file is `path`, free of symlinks.
    pub(super) fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let is_there = |bound: &Path| {
            let directory = bound.parent().and_then(|directory| directory.canonicalize().ok());
            directory.zip(bound.file_name()).is_some_and(|(directory, name)| directory.join(name) == path)
        };
        let at = self.unix.iter().position(|(bound, _)| is_there(bound))?;
        Some(self.unix.swap_remove(at).1)
    }

    /// Takes the one that listens on `address`.
    pub(super) fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(bound, _)| *bound == address)?;
        Some(self.tcp.swap_remove(at).1)
    }

    /// Ends the taking: nothing may be left, or callers would wait there for ever.
    ///
    /// # Errors
    /// [`SocketError::Unasked`].
    pub fn all_taken(self) -> Result<(), SocketError> {
        let unix = self.unix.into_iter().map(|(path, _)| path.display().to_string());
        let mut left = unix.chain(self.tcp.into_iter().map(|(address, _)| address.to_string()));
        left.next().map_or(Ok(()), |address| Err(SocketError::Unasked { address }))
    }
}
