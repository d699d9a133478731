//! The doors that ask for certificates: SDS over TCP, and the socket for brokers, under TLS 1.3 with a certificate on
//! each side.
//!
//! ```text
//! authorities  the file of the CAs whose certificates open the door to the network, reread; the last good one stays
//! certificate  our own certificate on a door, an SVID of the server's own ID, renewed
//! handshake    both put together: a connection → a TLS stream whose peer proved its key
//! ```
//!
//! Invariants: TLS 1.3 and HTTP/2 only; a caller without a certificate of the named CAs gets no further than its
//! handshake; nothing that we issued opens the door to the network, and nothing else the one for brokers. Absent, on purpose: resumption and tickets, which would let a
//! caller back in past the check of its certificate, and 0-RTT, which can be replayed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spiffe_bridge::clock::duration;

pub mod authorities;
pub mod certificate;
mod handshake;

pub(crate) use handshake::Terms;
pub use handshake::{Authorities, Handshakes};

/// The door to the network. Shut unless `listen` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where callers of the network connect, such as `0.0.0.0:8443`.
    pub listen: Option<SocketAddr>,
    /// The file, in PEM, of the CAs that issue to those callers; none of ours.
    pub client_ca: Option<PathBuf>,
    /// DNS names in our own certificate on this door, beside the server's SPIFFE ID.
    pub dns_names: Vec<String>,
    /// Connections to this door. They count among `limits.connections`, of which they have three quarters at most.
    pub connections: u32,
    /// Connections of one address. Of IPv6 the first half counts.
    pub connections_per_address: u32,
    /// Handshakes at one time; more wait to be accepted. One address has a quarter of them.
    pub handshakes: u32,
    /// Time for a handshake.
    #[serde(with = "duration")]
    pub handshake: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            client_ca: None,
            dns_names: Vec::new(),
            connections: 8192,
            connections_per_address: 1024,
            handshakes: 256,
            handshake: Duration::from_secs(5),
        }
    }
}
