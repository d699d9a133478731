//! Logs and metrics: set-up only. What is logged and counted stands with the module that does it.
//!
//! Both install a global, which is why only the composition root calls them, once.

pub mod logs;
pub mod metrics;
