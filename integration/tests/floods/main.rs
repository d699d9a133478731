//! Heavy and hostile clients against the real server: it lives, its memory is bounded, others are answered.
//!
//! ```text
//! world      the server, its memory, and the honest client       hand    a peer that writes frames by hand
//! requests   100,000 names, 4 MiB, requests without a pause      frames  floods below gRPC, half-open connections
//! streams    streams that never read, names without end          crowd   5,000 clients that come back at once
//! refusing   a process that refuses for ever                     place   the socket's place taken
//! ```
//!
//! Counts, not times: what is measured under such load is in docs/performance.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod crowd;
mod frames;
mod hand;
mod place;
mod refusing;
mod requests;
mod streams;
mod world;
