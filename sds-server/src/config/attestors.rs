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
    /// systemd.
    pub systemd: Systemd,
    /// Kubernetes.
    pub kubernetes: Kubernetes,
}

/// systemd, for `systemd:` selectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Systemd {
    /// The socket of the system's D-Bus. Where there is none the cgroups tell the unit, and nothing its file.
    pub bus: PathBuf,
}

/// Kubernetes, for `k8s:` selectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Who has the list of this node's pods: kubelet, or the API server. Without it nobody is asked.
    pub url: Option<String>,
    /// The service account's token.
    pub token_file: PathBuf,
    /// The CAs that the certificate of `url` must come from.
    pub ca_file: PathBuf,
    /// How often a pod that is served is looked at again: its labels may change.
    #[serde(with = "duration")]
    pub refresh: Duration,
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
        Self {
            deadline,
            keep,
            docker: Docker::default(),
            systemd: Systemd::default(),
            kubernetes: Kubernetes::default(),
        }
    }
}

impl Default for Systemd {
    fn default() -> Self {
        Self { bus: attest::Config::default().system_bus.unwrap_or_default() }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        // Where a pod finds its own. Kubernetes, "Accessing the API from a Pod".
        let of_pod = std::path::Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
        Self {
            url: None,
            token_file: of_pod.join("token"),
            ca_file: of_pod.join("ca.crt"),
            refresh: Duration::from_secs(60),
        }
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
        if !self.systemd.bus.is_absolute() {
            found.push(("attestors.systemd.bus", "give an absolute path".to_owned()));
        }
        for (key, file) in [
            ("attestors.kubernetes.token_file", &self.kubernetes.token_file),
            ("attestors.kubernetes.ca_file", &self.kubernetes.ca_file),
        ] {
            if !file.is_absolute() {
                found.push((key, "give an absolute path".to_owned()));
            }
        }
        if self.kubernetes.refresh < Duration::from_secs(1) {
            found.push(("attestors.kubernetes.refresh", "it must be at least 1s".to_owned()));
        }
        if self.kubernetes.url.as_ref().is_some_and(|url| !is_https(url)) {
            let advice = "give an https URL, such as https://NODE:10250/pods: a token goes with it";
            found.push(("attestors.kubernetes.url", advice.to_owned()));
        }
    }

    pub(super) fn library(&self) -> attest::Config {
        let Self { deadline, keep, docker, systemd, kubernetes } = self.clone();
        let Kubernetes { url, token_file, ca_file, refresh } = kubernetes;
        attest::Config {
            deadline,
            keep,
            docker_sockets: docker.sockets,
            system_bus: Some(systemd.bus),
            kubernetes: url.map(|url| attest::KubernetesConfig { url, token_file, ca_file, refresh }),
        }
    }
}

/// A URL with a host and without a password in it, which would show in errors.
fn is_https(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    uri.scheme_str() == Some("https") && authority.is_some_and(|authority| !authority.host().is_empty())
}
