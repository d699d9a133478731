//! The images that docker-compose.yml stands on, made here instead of pulled.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::podman::Podman;
use crate::scratch::Scratch;
use crate::tools::{self, apt};

/// Debian 12 with Python: for the server, and for the two programs.
pub(super) const BASE: &str = "localhost/countersign-base:bookworm";
/// The same with Envoy where the official image has it.
pub(super) const ENVOY: &str = "localhost/countersign-envoy:1.40.0";

pub(super) fn make(podman: &Podman, scratch: &Scratch) -> Result<()> {
    let base = base()?;
    podman.podman(&["import", &base.display().to_string(), BASE])?;
    let context = scratch.dir("envoy-image", None)?;
    fs::copy(tools::Release::default().envoy()?, context.join("envoy"))?;
    fs::write(context.join("Dockerfile"), format!("FROM {BASE}\nCOPY envoy /usr/local/bin/envoy\n"))?;
    podman.podman(&["build", "--quiet", "--tag", ENVOY, &context.display().to_string()])?;
    Ok(())
}

/// The archive of the base, made once.
fn base() -> Result<PathBuf> {
    apt::need("debootstrap", &["debootstrap"])?;
    let kept = tools::kept("compose")?;
    let archive = kept.join("base-bookworm.tar");
    if archive.exists() {
        return Ok(archive);
    }
    eprintln!("tools: making a Debian 12 with debootstrap (once, some minutes)");
    let work = tempfile::tempdir_in(&kept)?;
    let (tree, half) = (work.path().join("tree"), work.path().join("half.tar"));
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--include=python3", "bookworm"]).arg(&tree).args(mirror()?);
    let log = work.path().join("debootstrap.log");
    debootstrap.stdin(Stdio::null()).stdout(fs::File::create(&log)?);
    let status = debootstrap.status().context("debootstrap")?;
    ensure!(status.success(), "debootstrap: {status}\n{}", fs::read_to_string(&log)?);
    let packed = Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&half).arg(".").status()?;
    ensure!(packed.success(), "tar: {packed}");
    fs::rename(half, &archive)?;
    Ok(archive)
}

/// Where this machine has its packages from; debootstrap's own choice if it does not say.
fn mirror() -> Result<Option<String>> {
    let asked = Command::new("apt-get")
        .args(["indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"])
        .output()
        .context("apt-get")?;
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    Ok(said.lines().find_map(|line| line.strip_suffix(" bookworm")).map(str::to_owned))
}
