//! A listening TCP socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::net::{TcpListener, TcpStream};

use super::sockets::Sockets;

/// Why it cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on remote.listen, {address}")]
pub struct TcpError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A bound TCP socket that accepts connections.
#[derive(Debug)]
pub struct TcpDoor(TcpListener);

impl TcpDoor {
    /// The socket of `handed` that listens on `address`, or a new one.
    ///
    /// # Errors
    /// [`TcpError`].
    pub async fn open(address: SocketAddr, handed: &mut Sockets) -> Result<Self, TcpError> {
        let listener = match handed.tcp(address) {
            Some(listener) => TcpListener::from_std(listener),
            None => TcpListener::bind(address).await,
        };
        listener.map(Self).map_err(|source| TcpError { address, source })
    }

    /// The same socket once more, for a successor.
    ///
    /// # Errors
    /// If no file is left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next connection, and where it comes from. Cancel safe.
    ///
    /// # Errors
    /// Those of accept(2): most pass, `EMFILE` for instance.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = self.0.accept().await?;
        // A turn's writes go out together already; to wait for more would only hold up the last of them.
        stream.set_nodelay(true)?;
        Ok((stream, address))
    }
}
