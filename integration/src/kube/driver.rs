//! Who makes kubelet's cgroups, and where these then are.

use super::pods::Quality;

/// Kubelet's driver of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// Kubelet and runc make directories.
    Cgroupfs,
    /// They ask systemd for slices and scopes.
    Systemd,
}

impl Driver {
    /// As kubelet's configuration calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// Where the pod with `uid` has its cgroups, below the root of a hierarchy.
    pub(super) fn pod(self, quality: Quality, uid: &str) -> String {
        let class = match quality {
            Quality::BestEffort => Some("besteffort"),
            Quality::Burstable => Some("burstable"),
            Quality::Guaranteed => None,
        };
        match (self, class) {
            (Self::Cgroupfs, Some(class)) => format!("kubepods/{class}/pod{uid}"),
            (Self::Cgroupfs, None) => format!("kubepods/pod{uid}"),
            // systemd reads a dash as a level.
            (Self::Systemd, Some(class)) => {
                let uid = uid.replace('-', "_");
                format!("kubepods.slice/kubepods-{class}.slice/kubepods-{class}-pod{uid}.slice")
            }
            (Self::Systemd, None) => {
                format!("kubepods.slice/kubepods-pod{}.slice", uid.replace('-', "_"))
            }
        }
    }

    /// What the cgroup of the container `id` is called, in its pod's.
    pub(super) fn container(self, id: &str) -> String {
        match self {
            Self::Cgroupfs => id.to_owned(),
            Self::Systemd => format!("cri-containerd-{id}.scope"),
        }
    }
}
