//! placeholder
pub mod admin;
pub mod cli;
pub mod config;
pub mod endpoint;
pub mod runtime;
pub mod telemetry;
