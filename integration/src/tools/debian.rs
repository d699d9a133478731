//! Debian's packages, unpacked beside the tools without root and without being installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// A package, and which of those that it depends on are wanted too: all whose names start so. The C library stays
/// the machine's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package<'a> {
    pub(super) name: &'a str,
    pub(super) with: &'a [&'a str],
}

/// The root of what was unpacked.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// A program of it, with the libraries of it.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.0.join(program));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(library_dirs(&self.0)?)?);
        Ok(command)
    }
}

/// `packages` under `home`, unpacked at first use; processes that start together unpack once.
pub(super) fn unpacked(home: &Path, packages: &[Package<'_>]) -> Result<Root> {
    fs::create_dir_all(home)?;
    let lock = File::create(home.join("lock"))?;
    lock.lock().context("wait for another process that unpacks")?;
    let root = home.join("root");
    if !home.join("done").exists() {
        let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
        eprintln!("tools: unpacking Debian's {} into {}", names.join(", "), home.display());
        unpack(home, &root, packages)?;
        fs::write(home.join("done"), "")?;
    }
    Ok(Root(root))
}

fn unpack(home: &Path, root: &Path, packages: &[Package<'_>]) -> Result<()> {
    let (lists, cache, debs) = (home.join("lists"), home.join("cache"), home.join("debs"));
    for dir in [&lists.join("partial"), &cache.join("archives/partial"), &debs, &root.to_path_buf()] {
        fs::create_dir_all(dir)?;
    }
    // Lists and cache of our own: the machine's belong to root, and may be empty.
    let apt = |program: &str| {
        let mut command = Command::new(program);
        command.arg("-o").arg(format!("Dir::State::Lists={}", lists.display()));
        command.arg("-o").arg(format!("Dir::Cache={}", cache.display()));
        command.arg("-o").arg("APT::Sandbox::User=root").arg("--quiet=2");
        command
    };
    let mut update = apt("apt-get");
    update.arg("update");
    run(update)?;
    let mut wanted = Vec::new();
    for package in packages {
        let mut closure = apt("apt-cache");
        closure.args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"]);
        closure.args(["--no-breaks", "--no-replaces", "--no-enhances", package.name]);
        let names = String::from_utf8(closure.output().context("apt-cache")?.stdout)?;
        let is_wanted = |name: &&str| package.with.iter().any(|start| name.starts_with(start));
        let before = wanted.len();
        wanted.extend(names.lines().filter(is_wanted).map(str::to_owned));
        ensure!(wanted.len() > before, "Debian's packages name no {}", package.name);
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mut download = apt("apt-get");
    download.arg("download").args(wanted).current_dir(&debs);
    run(download)?;
    for deb in fs::read_dir(&debs)? {
        let mut extract = Command::new("dpkg");
        extract.arg("--extract").arg(deb?.path()).arg(root);
        run(extract)?;
    }
    Ok(())
}

/// `usr/lib/<triplet>` and `lib/<triplet>`, as far as they are there.
fn library_dirs(root: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for lib in [root.join("usr/lib"), root.join("lib")] {
        for entry in fs::read_dir(lib).into_iter().flatten() {
            let path = entry?.path();
            if path.to_string_lossy().ends_with("-linux-gnu") {
                dirs.push(path);
            }
        }
    }
    Ok(dirs)
}

/// Runs it, and on failure says what it said.
pub(super) fn run(mut command: Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
