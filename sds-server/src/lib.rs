//! Who asks, and how it is delivered: the server of Countersign.
//!
//! The only crate that binds, spawns and exits. The modules stand in the order of their arrows: each imports
//! only from those above it.
//!
//! ```text
//! runtime  telemetry  endpoint  sds  receipts  admin  config  app  cli
//! ```

pub mod runtime;

pub mod telemetry;

pub mod endpoint;

pub mod sds;

pub mod receipts;

pub mod admin;

pub mod config;

pub mod app;

pub mod cli;
