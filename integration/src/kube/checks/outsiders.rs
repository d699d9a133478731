//! Processes of no pod, in cgroups that are named as if they were.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::bench::Bench;
use super::directory::named;
use super::{PATIENCE, WHILE};
use crate::kube::leftovers::GIVEN;
use crate::kube::pod_program;
use crate::kube::pods::{Quality, USER};
use crate::poll;
use crate::process::Process;

pub(super) async fn check(bench: &mut Bench<'_>) -> Result<()> {
    println!("processes of uid {USER} outside of the pod:");
    let main = bench.running(&named("web"), "main").await?;
    let driver = bench.node.driver;
    let pod = driver.pod(Quality::BestEffort, &main.pod);
    let name = driver.container(&main.id);
    // A pod that kubelet does not know would not do: it kills whoever is in such a one's cgroup.
    let other = driver.pod(Quality::Burstable, &bench.running(&named("burstable"), "main").await?.pod);
    let unknown = driver.container(&"f".repeat(64));
    for (what, at, given) in [
        ("in no container's cgroup", GIVEN.to_owned(), true),
        (
            "in one of main's name, below a cgroup that was given to that user",
            format!("{GIVEN}/{pod}/{name}"),
            true,
        ),
        (
            "in one of a container that is not on the list, in the pod's own",
            format!("{pod}/{unknown}"),
            false,
        ),
        ("in one of main's name, in another pod's", format!("{other}/{name}"), false),
    ] {
        let at = Cgroup::make(&at, given)?;
        let process = at.start(bench)?;
        let lacks = async || process.output().lines().any(|line| line.starts_with("lacks"));
        poll::holds("it is told that it has nothing", PATIENCE, lacks)
            .await
            .with_context(|| process.tail())?;
        let why = bench.explained(process.id())?;
        let why = why.lines().find(|line| line.contains("k8s")).unwrap_or_default().trim().to_owned();
        tokio::time::sleep(WHILE).await;
        bench.say(&format!("{what}: nothing ({why})"), !process.output().contains("has "));
        drop(process);
        at.remove();
    }
    Ok(())
}

/// A cgroup of the test's own, in a hierarchy in which kubelet has its pods too.
struct Cgroup {
    at: PathBuf,
    /// The topmost directory that was made for it.
    top: PathBuf,
}

impl Cgroup {
    fn make(path: &str, given: bool) -> Result<Self> {
        let hierarchy =
            ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new).into_iter().find(|at| at.is_dir());
        let mut at = hierarchy.context("no cgroups")?.to_owned();
        let mut top = None;
        for part in path.split('/') {
            at.push(part);
            if !at.exists() {
                fs::create_dir(&at)?;
                top.get_or_insert_with(|| at.clone());
            }
            if given {
                chown(&at, Some(USER), Some(USER))?;
            }
        }
        Ok(Self { top: top.context("it is there already")?, at })
    }

    fn start(&self, bench: &Bench<'_>) -> Result<Process> {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec setpriv --reuid \"$1\" --regid \"$1\" --clear-groups \"$2\" watch \"$3\""]);
        command.arg(&self.at).arg(USER.to_string()).arg(pod_program()?).arg(bench.server.socket());
        let name = self.at.display().to_string().replace('/', "_");
        let log = bench.scratch.path().join(name.get(..name.len().min(200)).unwrap_or_default());
        Process::spawn("outsider", command, None, &log)
    }

    fn remove(self) {
        crate::podman::remove_cgroup(&self.top);
    }
}
