//! What real Envoys' statistics prove of the secrets that they were sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod asked;
mod local;
mod remote;
