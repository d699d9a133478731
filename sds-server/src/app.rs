//! The composition roots: the only place that knows every module. One a mode; today there is one mode.

mod all_in_one;
mod broker;
mod data;
mod explain;
mod handover;
mod holders;
mod metrics;
mod reload;
mod remote;
mod retention;
mod run;
mod sources;
mod standing;
mod trail;

pub use data::{DataError, initialise};
pub use metrics::describe as describe_metrics;
pub use run::{Place, run};
