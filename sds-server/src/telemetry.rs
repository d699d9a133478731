//! Logs, metrics and what is told of panics: set-up only. What is logged and counted stands with the module that does it.
//!
//! Each installs a global, which is why only the composition root calls them, once.

pub mod logs;
pub mod metrics;
pub mod panics;
