//! What Envoy's own statistics say of a secret that it was sent: the difference between "acknowledged" and
//! "applied".
//!
//! ```text
//! OTLP Export ─► service ─► observation (by name) ─┐
//!                                                  ├─► ledger (a client): joined ─► tracker ─► judge ─► roster
//! sds streams ───────────── what was told ─────────┘                      └► remedy ─► other bytes
//! ```
//!
//! The way of a push only raises a flag: a look at the streams follows at the next flush, or after a second.
//!
//! An ACK lies when the same bytes are sent again, and a NACK lies when some contexts had already switched. Only
//! `ssl_context_update_by_sds` tells the truth. docs/decisions/0002-proof-of-applied.md says how it was found.
//!
//! Invariants:
//! * No evidence is never evidence: a counter that is absent, or 0 of 0 contexts, proves nothing.
//! * Nothing in a message says who sent it: it is joined to a process by the connection, or to the very connection.
//! * What a message can make us keep is bounded by [`Bounds`].

pub mod desk;
pub mod joined;
pub mod judge;
pub mod ledger;
mod metrics;
pub mod observation;
pub mod otlp;
pub mod remedy;
mod service;
pub mod tracker;
pub mod xxh64;

pub use desk::Desk;
pub use joined::Hearing;
pub use judge::{Verdict, judge};
pub use observation::{Bounds, Observation, Owner};
pub use service::{Receipts, Reply};
pub use tracker::Tracker;
