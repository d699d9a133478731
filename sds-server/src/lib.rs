//! Who asks, and how it is delivered: the server of Countersign.
//!
//! The only crate that binds, spawns and exits. The modules stand in the order of their arrows: each imports
//! only from those above it.
//!
//! ```text
//! runtime  telemetry  proto  endpoint  sds  receipts  workload_api  broker_api  admin  config  app  cli
//! ```

pub mod runtime;

pub mod telemetry;

pub mod proto;

pub mod endpoint;

pub mod sds;

pub mod receipts;

pub mod workload_api;

pub mod broker_api;

pub mod admin;

pub mod config;

pub mod app;

pub mod cli;
