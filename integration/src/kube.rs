//! Pods of a real kubelet, on a real containerd, and what the `k8s` attestor makes of them. Needs root.
//!
//! ```text
//! machine    where all of it runs: in namespaces here, or on a machine in user mode with other cgroups
//! driver     who makes kubelet's cgroups, and what they are called
//! leftovers  what namespaces do not take away with them: cgroups, and what kubelet sets in the kernel
//! image      one image, for all containers, made by hand: none is pulled
//! node       containerd and kubelet, with a directory of pods
//! containerd how containerd is configured
//! kubelet    how kubelet is configured
//! cluster    etcd and an API server, which kubelet may join
//! logs       what containers said
//! accounts   namespaces, service accounts and their rights
//! pods       their manifests
//! checks     what is shown
//! ```
//!
//! All of it runs in mount, pid and network namespaces of its own, or under a kernel of its own, so that whatever comes of
//! it, its processes and mounts are gone with the first process of them. It touches neither the machine's containers nor its network.

mod accounts;
mod checks;
mod cluster;
mod containerd;
mod driver;
mod image;
mod kubelet;
mod leftovers;
mod logs;
mod machine;
mod node;
mod pods;

use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use self::checks::Origin;
use self::driver::Driver;
use self::leftovers::Leftovers;
use self::machine::Machine;
use crate::process::die_with_parent;
use crate::scratch::Scratch;
use crate::server;
use crate::tools::kubernetes::{self, Part, Runtime};
use crate::tools::{apt, go_program};

const INSIDE: &str = "--inside";
const V2: &str = "--v2";
const SYSTEMD: &str = "--systemd";

/// Whether all holds; it says what it saw. `arguments` name where pods come from: `directory`, `cluster`, or both if they
/// name none; after `--v2` if it shall be with the cgroups of version 2, or `--systemd` if with those and systemd's.
/// It starts itself again inside.
///
/// # Errors
/// Something cannot be installed, built or started, or another kubelet runs on this machine.
pub async fn run(arguments: &[String]) -> Result<bool> {
    let (is_inside, arguments) = match arguments {
        [flag, rest @ ..] if flag == INSIDE => (true, rest),
        all => (false, all),
    };
    let (machine, origins) = match arguments {
        [flag, rest @ ..] if flag == V2 => (Machine::Own(Driver::Cgroupfs), rest),
        [flag, rest @ ..] if flag == SYSTEMD => (Machine::Own(Driver::Systemd), rest),
        all => (Machine::This, all),
    };
    let origins = origins_of(origins)?;
    match (is_inside, machine) {
        (false, machine) => outside(machine, &origins).await,
        (true, Machine::Own(driver)) => checks::run(driver, &origins).await,
        (true, Machine::This) => checks::run(Driver::Cgroupfs, &origins).await,
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

async fn outside(machine: Machine, origins: &[Origin]) -> Result<bool> {
    ensure!(rustix::process::geteuid().is_root(), "it needs root");
    // Whatever must come from elsewhere comes now: inside there is no network.
    machine.need()?;
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
    // A kernel of its own takes all with it.
    let leftovers = (machine == Machine::This).then(Leftovers::watch).transpose()?;
    let scratch = Scratch::new()?;
    let status = inside(machine, scratch.path(), origins).await;
    if let Some(leftovers) = leftovers {
        leftovers.clear().await?;
    }
    let held = machine.held(scratch.path(), status?);
    // Its mounts are gone, so that nothing is deleted through one.
    drop(scratch);
    println!("processes, mounts and cgroups are gone");
    held
}

/// This program again, where it can do no harm, until it ends or somebody wants it to.
async fn inside(machine: Machine, scratch: &Path, origins: &[Origin]) -> Result<ExitStatus> {
    let flag = match machine {
        Machine::This => None,
        Machine::Own(Driver::Cgroupfs) => Some(V2),
        Machine::Own(Driver::Systemd) => Some(SYSTEMD),
    };
    let arguments: Vec<&str> = flag.into_iter().chain(origins.iter().map(|origin| origin.name())).collect();
    let mut command = machine.command(scratch, &arguments)?;
    die_with_parent(command.as_std_mut());
    let mut child = command.kill_on_drop(true).spawn().with_context(|| format!("start {command:?}"))?;
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
