//! The section that says who is asked about callers, besides the kernel.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spiffe_bridge::attest;
use spiffe_bridge::clock::duration;

/// Who is asked about callers. A service is asked only when an entry has a selector of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attestors {
    /// How long a caller waits for services that do not answer, before it goes on without their selectors.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How long it stays good what a service said of a process, when it does not answer.
    #[serde(with = "duration")]
    pub keep: Duration,
    /// Container runtimes.
    pub docker: Docker,
}

/// Container runtimes, for `docker:` selectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Docker {
    /// API sockets of Docker and Podman. Those that are there are asked; with none of them no runtime is.
    pub sockets: Vec<PathBuf>,
}

impl Default for Attestors {
    fn default() -> Self {
        let attest::Config { deadline, keep, .. } = attest::Config::default();
        Self { deadline, keep, docker: Docker::default() }
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self { sockets: attest::Config::default().docker_sockets }
    }
}

impl Attestors {
    /// What does not fit together, as key and advice.
    pub(super) fn problems(&self, found: &mut Vec<(&'static str, String)>) {
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&self.deadline) {
            found.push((
                "attestors.deadline",
                "it must be between 10ms and 1m: callers wait for it".to_owned(),
            ));
        }
        if self.keep < self.deadline {
            found.push(("attestors.keep", "it must not be shorter than attestors.deadline".to_owned()));
        }
        // Resolved by nothing but the kernel: a relative one would hang on where the server was started.
        if self.docker.sockets.iter().any(|socket| !socket.is_absolute()) {
            found.push(("attestors.docker.sockets", "give absolute paths".to_owned()));
        }
    }

    pub(super) fn library(&self) -> attest::Config {
        let Self { deadline, keep, docker } = self.clone();
        attest::Config { deadline, keep, docker_sockets: docker.sockets }
    }
}
