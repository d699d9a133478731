//! Finds a pip: the machine's, or one unpacked beside the tools from Debian's packages, without root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

const ADVICE: &str = "install python3 with pip (on Debian: apt-get install python3-pip) and try again";

/// Of everything that `python3-pip` depends on, what its interpreter loads. The C library stays the machine's.
const UNPACKED: [&str; 12] = [
    "python3",
    "libpython3",
    "libbz2",
    "libexpat",
    "libffi",
    "liblzma",
    "libsqlite3",
    "libssl",
    "libuuid",
    "libmpdec",
    "zlib1g",
    "media-types",
];

/// Unpacks `requirement` (one line of a requirements file, with its hash) into `work/unpacked`.
///
/// # Errors
/// There is no pip and none can be had, or the package does not have that hash.
pub(super) fn install(tools: &Path, requirement: &str, work: &Path) -> Result<()> {
    let requirements = work.join("requirements.txt");
    fs::write(&requirements, requirement)?;
    let mut pip = match system() {
        Some(pip) => pip,
        None => unpacked(&tools.join("python")).context(ADVICE)?,
    };
    pip.args([
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--no-compile",
    ])
    .args(["--no-cache-dir", "--disable-pip-version-check", "--root-user-action", "ignore", "--target"])
    .arg(work.join("unpacked"))
    .arg("--requirement")
    .arg(requirements);
    run(pip).with_context(|| format!("fetch {requirement}"))
}

fn system() -> Option<Command> {
    let works = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    works.then(|| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip"]);
        pip
    })
}

/// A Python with pip under `home`, which needs nothing installed but apt and dpkg.
fn unpacked(home: &Path) -> Result<Command> {
    let root = home.join("root");
    if !home.join("done").exists() {
        eprintln!("tools: no pip on this machine: unpacking Debian's python3-pip into {}", home.display());
        unpack(home, &root)?;
        fs::write(home.join("done"), "")?;
    }
    let usr = root.join("usr");
    let mut pip = Command::new(usr.join("bin/python3"));
    pip.args(["-m", "pip"]);
    pip.env("PYTHONHOME", &usr).env("PYTHONPATH", usr.join("lib/python3/dist-packages"));
    let libraries = std::env::join_paths(library_dirs(&root)?)?;
    pip.env("LD_LIBRARY_PATH", libraries);
    Ok(pip)
}

fn unpack(home: &Path, root: &Path) -> Result<()> {
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
    let mut closure = apt("apt-cache");
    closure.args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"]);
    closure.args(["--no-breaks", "--no-replaces", "--no-enhances", "python3-pip"]);
    let names = String::from_utf8(closure.output().context("apt-cache")?.stdout)?;
    let mut wanted: Vec<&str> =
        names.lines().filter(|name| UNPACKED.iter().any(|start| name.starts_with(start))).collect();
    wanted.sort_unstable();
    wanted.dedup();
    ensure!(!wanted.is_empty(), "Debian's packages name no python3-pip");
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
fn run(mut command: Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
