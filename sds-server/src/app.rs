//! The composition roots: the only place that knows every module. One a mode; today there is one mode.

pub mod all_in_one;
mod data;
mod explain;
mod metrics;
mod reload;
mod remote;
mod retention;
mod sources;

pub use data::{DataError, initialise};
pub use metrics::describe as describe_metrics;
