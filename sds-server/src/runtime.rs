//! How the process lives and dies: tasks, drain, readiness, signals, and what systemd is told.
//!
//! Order of use: [`harden`] before anything secret is read, then [`drain::channel`], [`Signals::install`], a
//! [`Supervisor`] that gets every task, and [`Supervisor::run`] last. Nothing else in the crate spawns a
//! task that outlives its connection.

mod crowd;
pub mod drain;
mod hardening;
mod inherited;
pub mod notify;
mod readiness;
mod signals;
pub mod slices;
mod supervisor;

pub use crowd::Crowd;
pub use drain::{Drain, Drainer};
pub use hardening::{HardeningError, harden, open_files};
pub use inherited::inherited;
pub use readiness::{Guard, Readiness};
pub use signals::{Reread, Signals};
pub use spiffe_bridge::clock::Seldom;
pub use supervisor::{Failure, Supervisor};

/// The error and its cause in one line.
#[must_use]
pub fn with_cause(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

/// The error of any task.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a service that stands beside another hands on what the other answered.
pub(crate) type Wrap<A, B> = fn(Result<A, std::convert::Infallible>) -> Result<B, std::convert::Infallible>;
