//! Why a session ends.

use std::fmt;

use crate::attest::{AttestError, Changed};

/// Why a connection gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// The process exited.
    ProcessExited,
    /// The process runs another program than when it was attested.
    ProcessExecuted,
    /// The process changed its user, group or supplementary groups.
    CredentialsChanged,
    /// The process was moved to another cgroup, by which its container or unit was known.
    ProcessMoved,
    /// The process could not be attested.
    NotAttested,
    /// The certificate of a remote caller has expired.
    CertificateExpired,
    /// The certificate of a remote caller is not one of the door's CAs, or not any more.
    CertificateNotTrusted,
    /// No entry gives the identity of a broker any more.
    NoEntry,
    /// The server is shutting down.
    Draining,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessExited => "the process that connected has exited",
            Self::ProcessExecuted => "the process that connected runs another program now: connect again",
            Self::CredentialsChanged => "the process that connected changed its credentials: connect again",
            Self::ProcessMoved => "the process that connected was moved to another cgroup: connect again",
            Self::NotAttested => "the process that connected could not be attested",
            Self::CertificateExpired => {
                "the certificate that the caller came with has expired: connect with a new one"
            }
            Self::CertificateNotTrusted => {
                "the certificate that the caller came with does not open this door"
            }
            Self::NoEntry => "no entry gives the identity that the caller came with",
            Self::Draining => "the server is shutting down",
        })
    }
}

impl From<Changed> for EndReason {
    fn from(changed: Changed) -> Self {
        match changed {
            Changed::Exited => Self::ProcessExited,
            Changed::Executed => Self::ProcessExecuted,
            Changed::Credentials => Self::CredentialsChanged,
            Changed::Moved => Self::ProcessMoved,
        }
    }
}

impl EndReason {
    /// Why a caller that was not attested gets nothing.
    pub(super) fn of(error: &AttestError) -> Self {
        match error {
            AttestError::Changed(changed) => (*changed).into(),
            _ => Self::NotAttested,
        }
    }
}
