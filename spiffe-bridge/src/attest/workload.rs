//! Attestors of workloads: one file each.

pub(super) mod docker;
pub mod kubernetes;
pub(super) mod systemd;
pub(super) mod unix;

use std::time::Duration;

use super::AttestError;

/// Why an attestor that asks a service of this machine gave no selectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// The service did not tell. Unknown, not no: it is asked again.
    #[error("{0}")]
    Failed(String),
    /// The service did not tell in time. As [`Unseen::Failed`] otherwise.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// The service does not know of it, and may just be late. It is asked again.
    #[error("{0}")]
    NotYet(String),
    /// What is claimed of this process does not hold.
    #[error("{0}")]
    Refused(String),
}

impl Unseen {
    /// Whether the service is at fault.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Late(_))
    }

    /// A look at a process that failed.
    fn of(error: &AttestError) -> Self {
        let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})"));
        Self::NotYet(format!("{error}{}", cause.unwrap_or_default()))
    }
}
