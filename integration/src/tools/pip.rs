//! Finds a pip: the machine's, or one unpacked beside the tools from Debian's packages, without root.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::debian::{self, Package, run};

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

/// A Python of whatever origin.
///
/// # Errors
/// There is none and none can be had.
pub(super) fn python(tools: &Path) -> Result<Command> {
    let works = Command::new("python3").arg("--version").output().is_ok_and(|said| said.status.success());
    if works {
        return Ok(Command::new("python3"));
    }
    interpreter(&tools.join("python")).context(ADVICE)
}

/// A Python that has the packages of `requirements` (a requirements file, each line with its hashes and nothing left to
/// be resolved), which are unpacked into `tools/python-NAME` at first use.
///
/// # Errors
/// There is no pip and none can be had, or a package does not have that hash.
pub(super) fn with_packages(tools: &Path, name: &str, requirements: &str) -> Result<Command> {
    fs::create_dir_all(tools)?;
    let home = tools.join(format!("python-{name}"));
    let lock = File::create(tools.join(format!("python-{name}.lock")))?;
    lock.lock().context("wait for another process that fetches")?;
    let installed = home.join("requirements.txt");
    if fs::read_to_string(&installed).ok().as_deref() != Some(requirements) {
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(tools)?;
        install(tools, requirements, work.path())?;
        fs::rename(work.path().join("unpacked"), &home)?;
        fs::write(&installed, requirements)?; // last: whoever finds it finds the rest
    }
    let (mut python, mut path) = match system() {
        Some(_) => (Command::new("python3"), Vec::new()),
        None => {
            let home = tools.join("python");
            (interpreter(&home)?, vec![home.join("root/usr/lib/python3/dist-packages")])
        }
    };
    path.insert(0, home);
    python.env("PYTHONPATH", std::env::join_paths(path)?).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(python)
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

/// A pip under `home`, which needs nothing installed but apt and dpkg.
fn unpacked(home: &Path) -> Result<Command> {
    let mut pip = interpreter(home)?;
    pip.args(["-m", "pip"]);
    Ok(pip)
}

fn interpreter(home: &Path) -> Result<Command> {
    let root = debian::unpacked(home, &[Package { name: "python3-pip", with: &UNPACKED }])?;
    let usr = root.path().join("usr");
    let mut python = root.command("usr/bin/python3")?;
    python.env("PYTHONHOME", &usr).env("PYTHONPATH", usr.join("lib/python3/dist-packages"));
    Ok(python)
}
