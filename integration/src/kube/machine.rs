//! Where the check runs: in namespaces of this machine, or on a machine of its own, which is Linux in user mode (UML).
//!
//! Its kernel has the cgroups of version 2, whatever this machine's has, and can have systemd for its first process.
//! It sees this machine's files, and nothing else of it.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result};
use tokio::process::Command;

use super::INSIDE;
use super::driver::Driver;
use crate::tools::apt;

const INIT: &str = include_str!("machine/init.sh");
const STATUS: &str = "status";

/// Where the check runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// In namespaces, with the cgroups that are here.
    This,
    /// In user mode, with the cgroups of version 2.
    Own(Driver),
}

impl Machine {
    /// Brings what it needs.
    ///
    /// # Errors
    /// Something cannot be installed.
    pub(super) fn need(self) -> Result<()> {
        apt::need("unshare", &["util-linux"])?;
        let Self::Own(driver) = self else { return Ok(()) };
        apt::need("linux.uml", &["user-mode-linux"])?;
        apt::need("insmod", &["kmod"])?;
        match driver {
            Driver::Cgroupfs => Ok(()),
            Driver::Systemd => apt::need("/lib/systemd/systemd", &["systemd"]),
        }
    }

    /// The command that runs this program there, inside, with `arguments`.
    ///
    /// # Errors
    /// The machine's first program cannot be written.
    pub(super) fn command(self, scratch: &Path, arguments: &[&str]) -> Result<Command> {
        // Around a machine in user mode too: it does not take all of its processes with it.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--pid", "--mount-proc", "--net"]);
        command.args(["--fork", "--kill-child"]);
        let program = env::current_exe()?;
        match self {
            Self::This => {
                command.arg(program).arg(INSIDE).args(arguments).env("TMPDIR", scratch);
            }
            Self::Own(driver) => {
                let line = format!("{} {INSIDE} {}", program.display(), arguments.join(" "));
                let (check, init) = (check(scratch, &line)?, script(scratch, "init.sh", INIT)?);
                command.args(["linux.uml", "mem=4G", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"]);
                command.args(["con=null", "con0=null,fd:1"]);
                command.arg(format!("init={}", init.display())).arg(format!("CHECK={}", check.display()));
                command.arg(format!("DRIVER={}", driver.name())).arg(format!("PATH={}", variable("PATH")?));
            }
        }
        Ok(command)
    }

    /// Whether all held, of a run that ended with `status`.
    ///
    /// # Errors
    /// It did not come to its end.
    pub(super) fn held(self, scratch: &Path, status: ExitStatus) -> Result<bool> {
        if self == Self::This {
            return Ok(status.success());
        }
        let said =
            fs::read_to_string(scratch.join(STATUS)).context("the machine ended before the check did")?;
        Ok(said.trim() == "0")
    }
}

/// Runs `line` on the machine's console, leaves its status in `scratch`, and turns the machine off.
fn check(scratch: &Path, line: &str) -> Result<PathBuf> {
    let text = format!(
        "#!/bin/sh\nexec </dev/null >/dev/console 2>&1\nexport PATH='{}' HOME='{}' TMPDIR=/mnt CARGO_NET_OFFLINE=true\n\
         uname -sr\n{line}\necho $? >'{}'\nsync\necho o >/proc/sysrq-trigger\nsleep 60\n",
        variable("PATH")?,
        variable("HOME")?,
        scratch.join(STATUS).display(),
    );
    script(scratch, "check.sh", &text)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("the variable {name} of the environment"))
}

fn script(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let at = dir.join(name);
    fs::write(&at, text)?;
    fs::set_permissions(&at, Permissions::from_mode(0o755))?;
    Ok(at)
}
