//! PKIX: one test a row of the conformance table, PK-01 to PK-13 and PK-21; rcgen and OpenSSL judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod ca;
mod fields;
mod serials;
#[path = "../support/mod.rs"]
mod support;
