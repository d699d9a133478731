//! The Secret Discovery Service: what Envoy asks for by name, and the secrets that it gets.
//!
//! ```text
//! service ─► stream ─► frame ─► sotw | delta ─► subscription ─► secret ─► check
//!                │                                   │ names
//!                └► status, metrics                  └ nack
//! ```
//!
//! [`Subscription`] is the one engine of both protocols: pure, level-triggered, without a queue. The codecs
//! [`sotw`] and [`delta`] only translate. A stream is a response body that the HTTP/2 library asks for the next
//! frame when there is room to send it, so a slow reader costs one frame and later gets the newest state.
//! docs/decisions/0001-transport.md says why no gRPC library stands between.
//!
//! Invariants:
//! * A secret is sent only if [`check`] found nothing that Envoy would refuse, or accept and fail open (6): nothing else
//!   can be encoded.
//! * "Not yours", "not yet" and "no such name" are one answer (7); there is no wildcard (XD-15).
//! * Everything a client can make us keep is bounded by [`Limits`] (11).
//! * No key material and no client's text reaches a log, an error or the status: see [`nack`].
//!
//! Absent, on purpose: session ticket keys (tickets outlive SVIDs), compressed messages.

pub mod check;
pub mod delta;
mod dress;
pub(crate) mod fetch;
pub mod frame;
mod limits;
mod look;
mod metrics;
pub mod nack;
pub mod names;
mod nobody;
pub(crate) mod partial;
pub(crate) mod pem;
pub mod proxy;
pub mod request;
mod rest;
pub mod secret;
mod service;
mod slot;
pub mod sotw;
pub mod status;
mod stream;
pub mod subscription;
mod trust;
pub mod wire;

pub use fetch::Whole;
pub use limits::Limits;
pub use look::{Lines, Look, Special, Told};
pub use proxy::{Proxies, Proxy};
pub use request::{Heard, Node, Protocol, Refusal, Request, Scope};
pub use secret::{Lookup, Resource};
pub(crate) use service::{GRPC, is_grpc, plain};
pub use service::{SdsService, Shared};
pub use status::{StreamRegistry, StreamStatus};
pub use stream::Frames;
pub(crate) use stream::{of_end, of_frame, trailers};
pub use subscription::{Response, Subscription};
