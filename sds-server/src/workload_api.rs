//! The SPIFFE Workload API, beside SDS on the same socket and from the same sessions.
//!
//! ```text
//! service ─► method (path) ─► gate (security header, session, one request) ─► feed ─► x509, jwt, wit
//!     │                                                        └► unary        │ follows the session, sends what is new
//!     └► neighbours: reflection and health
//! ```
//!
//! The Broker API tells the same by the same `gate`, `feed` and `unary`, in another `manner`.
//!
//! A feed is a response body, as an SDS stream is: the HTTP/2 library asks it for the next message when there is
//! room to send one, so a slow reader costs one message and then gets the newest state. A message is encoded once
//! for all callers that hold the same, and sent when its bytes differ from the last one's (WA-04, WA-05, WA-06).
//!
//! Invariants: the header comes before all else (WE-07); what a caller may not have is told from what it may not
//! have *yet* (WE-17, WE-18); nothing is added to the standard's service (WA-02). Absent: TCP (WE-02, WE-05).

pub(crate) mod feed;
mod feeds;
pub(crate) mod gate;
mod jwt;
mod limits;
pub(crate) mod manner;
mod message;
pub(crate) mod method;
pub(crate) mod metrics;
pub(crate) mod neighbours;
pub(crate) mod service;
pub(crate) mod unary;
mod wit;
mod x509;

pub use feed::Feed;
pub use feeds::{FeedStatus, Feeds, ToldStatus};
pub use limits::Config;
pub use neighbours::{Health, LOCAL, Neighbours, Services};
pub use service::{Shared, WorkloadApi};
