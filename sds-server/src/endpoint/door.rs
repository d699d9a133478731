//! The doors whose callers show certificates: what each knows of a caller before the handshake, and how it is counted.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::limits::{Holder, Refused};
use super::metrics::Open;
use super::peer::Credentials;
use super::serve::Party;
use super::tcp::TcpDoor;
use super::uds::Listener;

/// Where connections come in that begin with a handshake.
pub trait Door: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Where it comes from.
    type Origin: fmt::Display + Copy + Send + Sync + 'static;
    /// Which door it is.
    const KIND: Kind;

    /// The next connection, and where it comes from, if the kernel says. Cancel safe.
    ///
    /// # Errors
    /// Those of accept(2): most pass, `EMFILE` for instance.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<Self::Origin>)>> + Send;

    /// Whose a connection is when connections are counted.
    fn holder(origin: Self::Origin) -> Holder;

    /// Whose a connection is when turns are given.
    fn party(origin: Self::Origin) -> Party;
}

/// A door, for what is counted and said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the network.
    Network,
    /// For brokers.
    Brokers,
}

impl Kind {
    pub(super) const fn refused(self) -> Refused {
        match self {
            Self::Network => Refused::Tls,
            Self::Brokers => Refused::Broker,
        }
    }

    pub(super) fn open(self) -> Open {
        match self {
            Self::Network => Open::remote(),
            Self::Brokers => Open::broker(),
        }
    }
}

impl Door for TcpDoor {
    type Stream = TcpStream;
    type Origin = SocketAddr;
    const KIND: Kind = Kind::Network;

    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        Self::accept(self).await.map(|(stream, address)| (stream, Some(address)))
    }

    fn holder(address: SocketAddr) -> Holder {
        Holder::at(address.ip())
    }

    fn party(address: SocketAddr) -> Party {
        Party::Holder(Self::holder(address))
    }
}

impl Door for Listener {
    type Stream = UnixStream;
    type Origin = Credentials;
    const KIND: Kind = Kind::Brokers;

    async fn accept(&self) -> io::Result<(UnixStream, Option<Credentials>)> {
        let stream = Self::accept(self).await?;
        let credentials = Credentials::of(&stream).ok();
        Ok((stream, credentials))
    }

    fn holder(credentials: Credentials) -> Holder {
        Holder::User(credentials.uid)
    }

    fn party(credentials: Credentials) -> Party {
        Party::Process(credentials.pid)
    }
}
