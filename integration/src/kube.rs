//! Pods of a real kubelet, on a real containerd, and what the `k8s` attestor makes of them. Needs root.
//!
//! ```text
//! leftovers  what namespaces do not take away with them: cgroups, and what kubelet sets in the kernel
//! image      one image, for all containers, made by hand: none is pulled
//! node       containerd and kubelet, with a directory of pods
//! kubelet    how kubelet is configured
//! cluster    etcd and an API server, which kubelet may join
//! accounts   namespaces, service accounts and their rights
//! pods       their manifests
//! checks     what is shown
//! ```
//!
//! All of it runs in mount, pid and network namespaces of its own, so that whatever comes of it, its processes and mounts
//! are gone with the first process of them. It touches neither the machine's containers nor its network.

mod accounts;
mod checks;
mod cluster;
mod image;
mod kubelet;
mod leftovers;
mod node;
mod pods;

use std::env;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use self::checks::Origin;
use self::leftovers::Leftovers;
use crate::process::die_with_parent;
use crate::scratch::Scratch;
use crate::server;
use crate::tools::kubernetes::{self, Part, Runtime};
use crate::tools::{apt, go_program};

const INSIDE: &str = "--inside";

/// Whether all holds; it says what it saw. `arguments` name where pods come from: `directory`, `cluster`, or both if there are
/// none. It starts itself again inside.
///
/// # Errors
/// Something cannot be installed, built or started, or another kubelet runs on this machine.
pub async fn run(arguments: &[String]) -> Result<bool> {
    match arguments {
        [flag, origins @ ..] if flag == INSIDE => checks::run(&origins_of(origins)?).await,
        origins => outside(&origins_of(origins)?).await,
    }
}

fn origins_of(arguments: &[String]) -> Result<Vec<Origin>> {
    if arguments.is_empty() {
        return Ok(Origin::ALL.to_vec());
    }
    let origin = |name: &String| {
        let found = Origin::ALL.into_iter().find(|origin| origin.name() == name);
        found.with_context(|| format!("{name:?} is no origin of pods: directory or cluster"))
    };
    arguments.iter().map(origin).collect()
}

async fn outside(origins: &[Origin]) -> Result<bool> {
    ensure!(rustix::process::geteuid().is_root(), "it needs root");
    // Whatever must come from elsewhere comes now: inside there is no network.
    apt::need("unshare", &["util-linux"])?;
    apt::need("ip", &["iproute2"])?;
    apt::need("curl", &["curl"])?;
    server::built()?;
    pod_program()?;
    Runtime::unpacked()?;
    let mut parts = vec![Part::Kubelet];
    if origins.contains(&Origin::Cluster) {
        parts.push(Part::ApiServer);
        kubernetes::etcd()?;
    }
    for part in parts {
        part.built()?;
        println!("{} {}, built from its module", part.name(), kubernetes::version()?);
    }
    let leftovers = Leftovers::watch()?;
    let scratch = Scratch::new()?;
    let status = inside(scratch.path(), origins).await;
    leftovers.clear().await?;
    // Its mounts are gone, so that nothing is deleted through one.
    drop(scratch);
    println!("processes, mounts and cgroups are gone");
    Ok(status?.success())
}

/// This program again, where it can do no harm, until it ends or somebody wants it to.
async fn inside(scratch: &Path, origins: &[Origin]) -> Result<ExitStatus> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--mount-proc", "--net"]);
    command.args(["--fork", "--kill-child"]).arg(env::current_exe()?).arg(INSIDE);
    command.args(origins.iter().map(|origin| origin.name())).env("TMPDIR", scratch);
    die_with_parent(command.as_std_mut());
    let mut child = command.kill_on_drop(true).spawn().context("start unshare")?;
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        status = child.wait() => Ok(status?),
        _ = term.recv() => bail!("it was told to end"),
        _ = interrupt.recv() => bail!("it was interrupted"),
    }
}

/// What runs in the pods: a program with the SPIFFE library for Go.
fn pod_program() -> Result<std::path::PathBuf> {
    go_program("pod", &Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go/pod"))
}
