//! The runtime that kubelet tells what to run.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::driver::Driver;
use super::pods::IMAGE;
use crate::process::Process;
use crate::tools::kubernetes::Runtime;

/// Starts it with all its files in `dir`.
///
/// # Errors
/// It cannot be started.
pub(super) fn start(runtime: &Runtime, dir: &Path, driver: Driver) -> Result<Process> {
    let at = |leaf: &str| dir.join(leaf).display().to_string();
    let config = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = \"{}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{IMAGE}\"\ndisable_tcp_service = true\n\
         restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = {}\n",
        at("containerd/root"),
        at("containerd/state"),
        at("containerd.sock"),
        driver == Driver::Systemd,
    );
    fs::write(dir.join("containerd.toml"), config)?;
    let mut command = runtime.command("containerd")?;
    command.args(["--config", &at("containerd.toml")]);
    Process::spawn("containerd", command, None, &dir.join("containerd.log"))
}
