//! Debian's packages that a test stands on, installed at first use. Needs root.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Installs `packages` unless `program` is there. Test binaries that start together install once.
///
/// # Errors
/// It cannot be installed; the error says by which command it could.
pub fn need(program: &str, packages: &[&str]) -> Result<()> {
    let lock = File::create(std::env::temp_dir().join("countersign-apt.lock"))?;
    lock.lock().context("wait for another process that installs")?;
    if is_there(program) {
        return Ok(());
    }
    eprintln!("tools: installing {}", packages.join(", "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).output()
    };
    let advice = || format!("as root: apt-get install {}", packages.join(" "));
    let install = [&["install", "--no-install-recommends"], packages].concat();
    if !apt(&install).with_context(advice)?.status.success() {
        // The lists may be old, or not there at all.
        apt(&["update"]).with_context(advice)?;
        let output = apt(&install).with_context(advice)?;
        ensure!(output.status.success(), "{}\n{}", advice(), String::from_utf8_lossy(&output.stderr));
    }
    ensure!(is_there(program), "{program} is not among {packages:?}");
    Ok(())
}

fn is_there(program: &str) -> bool {
    let status = Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
