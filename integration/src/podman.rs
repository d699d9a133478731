//! A Podman of the test's own: its images, containers and API socket lie in the scratch directory. Needs root.
//!
//! The image is a static busybox; a program of the machine runs in it with the machine's libraries mounted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::poll;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::tools::apt;

/// The name of the image.
pub const IMAGE: &str = "localhost/busybox:test";
const MACHINE: &str = "localhost/machine:test";
/// As little as a container needs where the harness itself runs in one.
const CONFIG: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Podman {
    dir: PathBuf,
    driver: &'static str,
    service: Option<Process>,
}

/// A container that was started; removed with its Podman.
#[derive(Debug, Clone)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its first process, as the machine numbers it.
    pub pid: u32,
}

impl Podman {
    /// Brings Podman in, makes the image, and serves the API.
    ///
    /// # Errors
    /// It cannot be installed or started.
    pub async fn start(scratch: &Scratch) -> Result<Self> {
        // Copies of a small tree; whatever lies under it, this driver works.
        let mut podman = Self::bare(scratch, "vfs")?;
        podman.import_busybox()?;
        podman.serve().await?;
        Ok(podman)
    }

    /// Brings Podman in, without an image, its layers kept by storage driver `driver`.
    ///
    /// # Errors
    /// It cannot be installed.
    pub fn bare(scratch: &Scratch, driver: &'static str) -> Result<Self> {
        apt::need("podman", &["podman", "runc", "busybox-static"])?;
        apt::need("runc", &["runc"])?;
        let dir = scratch.dir("podman", None)?;
        fs::write(dir.join("containers.conf"), CONFIG)?;
        Ok(Self { dir, driver, service: None })
    }

    /// A program that is this Podman, for tools that want one by its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn program(&self) -> Result<PathBuf> {
        let at = self.dir.join("podman");
        let conf = self.dir.join("containers.conf");
        let mut text = format!("#!/bin/sh\nCONTAINERS_CONF='{}' exec podman", conf.display());
        for (flag, value) in self.places() {
            text += &format!(" {flag} '{value}'");
        }
        fs::write(&at, text + " \"$@\"\n")?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
        Ok(at)
    }

    /// The API socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// Answers at the API socket.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn serve(&mut self) -> Result<()> {
        let _ = fs::remove_file(self.socket());
        let mut command = self.command();
        command.args(["system", "service", "--time", "0"]).arg(format!("unix://{}", self.socket().display()));
        self.service = Some(Process::spawn("podman", command, None, &self.dir.join("service.log"))?);
        let socket = self.socket();
        poll::holds("podman listens", PATIENCE, async || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
        .await
    }

    /// The process that answers at the API socket.
    #[must_use]
    pub fn service(&mut self) -> Option<&mut Process> {
        self.service.as_mut()
    }

    /// Ends the answering. Containers go on.
    pub fn silence(&mut self) {
        self.service = None;
    }

    /// Starts a container with `options` of `podman run`, which runs `program`.
    ///
    /// # Errors
    /// It does not start.
    pub fn run(&self, options: &[&str], program: &[&str]) -> Result<Container> {
        self.run_image(IMAGE, options, program)
    }

    /// Boots a systemd of this machine's kind, with the machine's own programs: with `units`, names and texts, of which
    /// those named `.service` are started.
    ///
    /// # Errors
    /// It does not start.
    pub fn boot(&self, options: &[&str], units: &[(&str, &str)]) -> Result<Container> {
        apt::need("systemctl", &["systemd"])?;
        apt::need("dbus-daemon", &["dbus"])?;
        let tree = self.dir.join("machine");
        let etc = tree.join("etc");
        for place in ["usr", "etc/systemd/system", "etc/dbus-1", "var", "run", "tmp", "proc", "sys", "dev"] {
            fs::create_dir_all(tree.join(place))?;
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), tree.join(link))?;
        }
        for file in ["passwd", "group", "ld.so.cache"] {
            fs::copy(Path::new("/etc").join(file), etc.join(file))?;
        }
        fs::write(etc.join("machine-id"), "\n")?;
        let wanted = units.iter().map(|(name, _)| *name).filter(|name| name.ends_with(".service"));
        let wanted: Vec<_> = wanted.chain(["dbus.service"]).collect();
        let target = format!("[Unit]\nWants={}\n", wanted.join(" "));
        for (name, text) in units.iter().copied().chain([("default.target", target.as_str())]) {
            fs::write(etc.join("systemd/system").join(name), text)?;
        }
        self.import(&tree, MACHINE)?;
        let options =
            [&["--systemd=always", "--cap-add", "SYS_PTRACE", "--volume", "/usr:/usr:ro"], options].concat();
        self.run_image(MACHINE, &options, &["/lib/systemd/systemd"])
    }

    fn run_image(&self, image: &str, options: &[&str], program: &[&str]) -> Result<Container> {
        let arguments = [&["run", "--detach", "--network", "none"], options, &[image], program].concat();
        let said = self.podman(&arguments)?;
        let id = said.lines().last().unwrap_or_default().trim().to_owned();
        self.container(&id)
    }

    /// The container as it runs now.
    ///
    /// # Errors
    /// It does not run.
    pub fn container(&self, id: &str) -> Result<Container> {
        let pid = self.podman(&["inspect", "--format", "{{.State.Pid}}", id])?.trim().parse()?;
        ensure!(pid != 0, "container {id} does not run:\n{}", self.logs(id)?);
        Ok(Container { id: id.to_owned(), pid })
    }

    /// What the container's first process has said.
    ///
    /// # Errors
    /// There is no such container.
    pub fn logs(&self, id: &str) -> Result<String> {
        let output = self.command().args(["logs", id]).output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Runs podman.
    ///
    /// # Errors
    /// It fails, with what it said.
    pub fn podman(&self, arguments: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.command().args(arguments).output().context("podman")?;
        ensure!(status.success(), "podman {arguments:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        for (flag, value) in self.places() {
            command.arg(flag).arg(value);
        }
        command
    }

    fn places(&self) -> [(&'static str, String); 4] {
        let leaf = |leaf: &str| self.dir.join(leaf).display().to_string();
        [
            ("--root", leaf("root")),
            ("--runroot", leaf("run")),
            ("--tmpdir", leaf("tmp")),
            ("--storage-driver", self.driver.to_owned()),
        ]
    }

    fn import_busybox(&self) -> Result<()> {
        let tree = self.dir.join("tree");
        for place in ["bin", "lib", "lib64", "usr/lib", "tmp", "etc", "dev", "proc", "sys"] {
            fs::create_dir_all(tree.join(place))?;
        }
        fs::copy(busybox()?, tree.join("bin/busybox"))?;
        for name in ["sh", "sleep", "cat"] {
            symlink("busybox", tree.join("bin").join(name))?;
        }
        self.import(&tree, IMAGE)
    }

    fn import(&self, tree: &Path, name: &str) -> Result<()> {
        let archive = self.dir.join("image.tar");
        let packed = Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(&archive).arg(".").status()?;
        ensure!(packed.success(), "tar: {packed}");
        self.podman(&["import", &archive.display().to_string(), name]).map(drop)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let ids = self.podman(&["ps", "--all", "--quiet", "--no-trunc"]).unwrap_or_default();
        let _ = self.command().args(["rm", "--all", "--force", "--time", "0"]).output();
        // What a container made below its own cgroup (a systemd does) stays there.
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|h| h.path());
        for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
            for id in ids.lines() {
                remove_cgroup(&hierarchy.join(format!("libpod_parent/libpod-{id}")));
            }
        }
    }
}

/// The files of a cgroup go with its directory, and that when no process is in it.
pub(crate) fn remove_cgroup(at: &Path) {
    let below = fs::read_dir(at).into_iter().flatten().flatten();
    for directory in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&directory.path());
    }
    let _ = fs::remove_dir(at);
}

/// A busybox without libraries: Debian's `busybox-static` replaces `busybox`.
fn busybox() -> Result<&'static Path> {
    apt::need("busybox", &["busybox-static"])?;
    ["/bin/busybox", "/usr/bin/busybox"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
        .context("busybox")
}
