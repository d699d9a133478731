//! What namespaces do not take away with them: kubelet's cgroups, and what it sets in the kernel.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::podman::remove_cgroup;
use crate::poll;

/// A part of a hierarchy that is given to a user of no trust.
pub(super) const GIVEN: &str = "countersign-kube-check";
/// What kubelet sets at its start, if it is otherwise.
const SET: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
/// Where a kubelet answers.
const KUBELET: (&str, u16) = ("127.0.0.1", 10250);
/// Processes that were killed are gone soon, and only then their cgroups can go.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the machine was before.
#[derive(Debug)]
pub(super) struct Leftovers {
    settings: Vec<(PathBuf, String)>,
}

impl Leftovers {
    /// Looks at the machine, and takes away what an earlier run, if it was cut off, has left.
    ///
    /// # Errors
    /// A kubelet or pods run on this machine that are not ours.
    pub(super) fn watch() -> Result<Self> {
        ensure!(
            TcpStream::connect(KUBELET).is_err(),
            "a kubelet runs here: this is not for a cluster's node"
        );
        remove();
        ensure!(cgroups().is_empty(), "pods run here: this is not for a cluster's node");
        let read = |name: &&str| {
            let path = Path::new("/proc/sys").join(name);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            Ok((path, text))
        };
        Ok(Self { settings: SET.iter().map(read).collect::<Result<_>>()? })
    }

    /// Makes it so again.
    ///
    /// # Errors
    /// It cannot; the error says what is left.
    pub(super) async fn clear(self) -> Result<()> {
        for (path, text) in &self.settings {
            fs::write(path, text).with_context(|| path.display().to_string())?;
        }
        poll::holds("the cgroups of the pods are gone", PATIENCE, async || {
            remove();
            cgroups().is_empty()
        })
        .await
        .with_context(|| format!("left: {:?}", cgroups()))
    }
}

/// Kubelet's cgroup and the one that was given away, in each hierarchy.
fn cgroups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |hierarchy: PathBuf| ["kubepods", GIVEN].map(|name| hierarchy.join(name));
    below.chain([root.to_owned()]).flat_map(ours).filter(|at| at.exists()).collect()
}

fn remove() {
    // The kernel removes no cgroup that has a process.
    cgroups().iter().for_each(|at| remove_cgroup(at));
}
