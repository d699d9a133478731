//! Listeners and callers: who is at the other end, how much it may take, and HTTP/2 between us.
//!
//! ```text
//! uds (bind, accept) → peer (credentials, pidfd) → limits (permit) → admit (the composition root) → serve (HTTP/2)
//! ```
//!
//! Invariants: the socket lies where nobody but root and we can replace it; every connection holds a permit
//! until its last byte; what a connection costs is bounded before its first request is read. Absent: abstract
//! sockets, TCP and TLS (later), and the writer's credentials of each read (`SO_PASSCRED`, later).

pub mod limits;
mod metrics;
pub mod peer;
pub mod serve;
pub mod uds;

pub use limits::{Config, Limits};
pub use metrics::describe;
pub use peer::Peer;
pub use serve::Server;
