//! The Broker API of the real server: rows BE and BA that bind a server. The test is the broker, and the workloads are
//! programs that know nothing of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod attacker;
mod attackers;
mod bounds;
mod endpoint;
mod fixture;
mod floods;
mod references;
mod reflection;
mod responses;
mod reuse;
