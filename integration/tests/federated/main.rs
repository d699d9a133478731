//! Another trust domain's roots, keys and CRLs over the Workload API of the real server, as a document of its operator
//! gives them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bundles;
mod library;
mod partner;
mod tokens;
