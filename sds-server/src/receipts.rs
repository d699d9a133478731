//! What Envoy's own statistics say of a secret that it was sent: the difference between "acknowledged" and
//! "applied".
//!
//! ```text
//! OTLP Export ─► otlp (decode, bounded) ─► observation (by name) ─► tracker (a process) ─► judge (pure)
//! ```
//!
//! An ACK lies when the same bytes are sent again, and a NACK lies when some contexts had already switched. Only
//! `ssl_context_update_by_sds` tells the truth. docs/decisions/0002-proof-of-applied.md says how it was found.
//!
//! Invariants:
//! * No evidence is never evidence: a counter that is absent, or 0 of 0 contexts, proves nothing.
//! * Nothing in a message says who sent it; the caller joins it to a process by the connection.
//! * What a message can make us keep is bounded by [`Bounds`].

pub mod judge;
mod metrics;
pub mod observation;
pub mod otlp;
mod service;
pub mod tracker;
pub mod xxh64;

pub use judge::{Baseline, Push, Verdict, judge};
pub use observation::{Bounds, Observation, Owner};
pub use service::{Receipts, Reply};
pub use tracker::Tracker;
