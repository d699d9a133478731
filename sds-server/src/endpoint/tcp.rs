//! A listening TCP socket.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

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
    /// Binds `address`.
    ///
    /// # Errors
    /// [`TcpError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, TcpError> {
        TcpListener::bind(address).await.map(Self).map_err(|source| TcpError { address, source })
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
