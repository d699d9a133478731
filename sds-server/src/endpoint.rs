//! Listeners and callers: who is at the other end, how much it may take, and HTTP/2 between us.
//!
//! ```text
//! uds (bind, accept) → limits (permit) → peer (credentials, pidfd) ─┐
//! tcp, uds (door)    → limits (permit) → tls (certificate) ─────────┴→ admit (the composition root) → serve (HTTP/2)
//! ```
//!
//! Invariants: the socket lies where nobody but root and we can replace it; every connection holds a permit
//! until its last byte; what a connection costs is bounded before its first request is read; over the network nobody is
//! heard without a certificate of the CAs named for that. On the socket every byte that is
//! read was written by the process that connected. Absent: abstract sockets.

pub mod door;
pub mod limits;
mod metrics;
pub mod peer;
pub mod serve;
pub mod sockets;
pub mod tcp;
pub mod tls;
pub mod uds;

pub use limits::{Config, Limits};
pub use metrics::describe;
pub use peer::Peer;
pub use serve::{Patience, SecuredServer, Server};
