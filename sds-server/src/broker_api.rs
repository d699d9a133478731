//! The SPIFFE Broker API, on a socket of its own: what a workload may have, told to a broker that acts for it. Incubating,
//! by spiffe/spiffe at 665a28f.
//!
//! ```text
//! service ─► gate (header, broker's session, allow-list, one request) ─► reference ─► resolve ─► the feed and the
//!     └► neighbours: reflection and health                  (which process)   (its session)      answers of workload_api
//! ```
//!
//! A referenced process is held by its pidfd and attested as if it had connected: the same selectors, the same entries,
//! the same updates. Its stream ends with it, and with the broker's own right to ask.
//!
//! Invariants: nobody is answered whose SPIFFE ID is not in the configuration (BE-08); nothing that a broker says of a
//! workload is believed but its pid (BA-08); pids are those of the server's PID namespace, and a broker of another
//! namespace names nobody by them (BA-03); one call is about one workload (BA-07). Absent, on purpose: a TCP socket,
//! over which pids would mean another node's processes (BA-04); references to objects of Kubernetes.

mod limits;
mod manner;
mod method;
mod reference;
mod resolve;
mod service;

pub use limits::Config;
pub use resolve::Workloads;
pub use service::{BrokerApi, SERVICES};
