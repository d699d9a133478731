//! Attestors of workloads: one file each.

pub(super) mod docker;
pub mod kubernetes;
pub(super) mod systemd;
pub(super) mod unix;

use super::AttestError;

/// Why an attestor that asks a service of this machine gave no selectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// The service did not tell. Unknown, not no: it is asked again.
    #[error("{0}")]
    Failed(String),
    /// The service does not know of it, and may just be late. It is asked again.
    #[error("{0}")]
    NotYet(String),
    /// What is claimed of this process does not hold.
    #[error("{0}")]
    Refused(String),
}

impl Unseen {
    /// A look at a process that failed.
    fn of(error: &AttestError) -> Self {
        let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})"));
        Self::NotYet(format!("{error}{}", cause.unwrap_or_default()))
    }
}
