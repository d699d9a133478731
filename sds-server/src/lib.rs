//! placeholder
pub mod endpoint;
pub mod runtime;
pub mod telemetry;
