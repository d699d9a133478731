//! The Workload API over a socket: rows WA and WE that bind a server. What is issued, and for whom, has its tests in
//! the library; client libraries as they are have theirs in `integration`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "workload_api/endpoint.rs"]
mod endpoint;
#[path = "workload_api/fixture.rs"]
mod fixture;
#[path = "workload_api/jwt.rs"]
mod jwt;
#[path = "workload_api/wit.rs"]
mod wit;
#[path = "workload_api/x509.rs"]
mod x509;
