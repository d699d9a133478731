//! A node: containerd and kubelet, which runs what lies in a directory, and what an API server tells it if there is one.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::driver::Driver;
use super::kubelet::{self, Master, Serving};
use super::pods::IMAGE;
use super::{containerd, image, logs};
use crate::ca::{self, Ca};
use crate::poll;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::tools::kubernetes::Runtime;
use crate::tools::network::Tool;

/// What the node is called.
pub(super) const NAME: &str = "n1";
/// The node's address, on its loopback interface: a node of a cluster must have one that is none of loopback's.
pub(super) const ADDRESS: &str = "192.0.2.1";
/// Where the API server is, as pods know it.
pub(super) const API: &str = "kubernetes.default.svc";
/// Where kubelet has the list of its pods.
pub(super) const URL: &str = "https://127.0.0.1:10250/pods";
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Node {
    dir: PathBuf,
    runtime: Runtime,
    pub(super) ca: Ca,
    /// Certificate and key of a user who may all, once there is somebody to tell users apart.
    pub(super) admin: [PathBuf; 2],
    master: Master,
    pub(super) driver: Driver,
    /// The id of [`IMAGE`], which is the hash of its configuration.
    pub(super) image_id: String,
    _containerd: Process,
    kubelet: Option<Process>,
}

impl Node {
    /// Must be called where mounts and network are our own.
    ///
    /// # Errors
    /// Something does not start.
    pub(super) async fn start(scratch: &Scratch, pod: &Path, driver: Driver) -> Result<Self> {
        let dir = scratch.dir("node", None)?;
        // Sockets of containerd's shims and for plugins of kubelet, links to logs: their places are not to be configured.
        let bind = |from: &Path, to: &Path| run(Command::new("mount").arg("--bind").arg(from).arg(to));
        let systemd = (driver == Driver::Systemd).then(|| Path::new("/run/systemd"));
        let aside = scratch.dir("systemd", None)?;
        systemd.map(|own| bind(own, &aside)).transpose()?;
        for at in ["/run", "/var/log", "/var/lib"] {
            run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", at]))?;
        }
        // Kubelet and runc ask systemd there.
        systemd.map(fs::create_dir_all).transpose()?;
        systemd.map(|own| bind(&aside, own)).transpose()?;
        run(Tool::Ip.command()?.args(["link", "set", "lo", "up"]))?;
        run(Tool::Ip.command()?.args(["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]))?;
        fs::write(dir.join("hosts"), format!("127.0.0.1 localhost {API}\n"))?;
        bind(&dir.join("hosts"), Path::new("/etc/hosts"))?;
        let ca = Ca::new("the cluster's", None)?;
        fs::write(dir.join("ca.crt"), ca.pem())?;
        // Without an API server nobody can tell tokens apart: kubelet takes all as nobody's, and nobody may ask all.
        fs::write(dir.join("token"), "nobody-asks-for-it\n")?;
        let admin = ca::write(&ca.issue_user("admin", "system:masters")?, &dir, "admin")?;
        for place in ["manifests", "logs", "plugins"] {
            fs::create_dir_all(dir.join(place))?;
        }
        let runtime = Runtime::unpacked()?;
        let containerd = containerd::start(&runtime, &dir, driver)?;
        let (archive, image_id) = image::make(&scratch.dir("image", None)?, IMAGE, pod)?;
        let master = Master::Directory;
        let node = Self {
            dir,
            runtime,
            ca,
            admin,
            master,
            driver,
            image_id,
            _containerd: containerd,
            kubelet: None,
        };
        poll::holds("containerd answers", PATIENCE, async || node.ctr(&["version"]).is_ok()).await?;
        node.ctr(&["images", "import", &archive.display().to_string()])?;
        Ok(node)
    }

    /// Starts kubelet, or starts it again, and waits until it answers.
    ///
    /// # Errors
    /// It does not come up; the error has its last words.
    pub(super) async fn kubelet(&mut self, serving: Serving) -> Result<()> {
        self.stop_kubelet();
        let own = ca::write(&self.ca.issue_at(Ipv4Addr::LOCALHOST.into())?, &self.dir, "kubelet")?;
        let serving = (serving == Serving::Signed).then_some(&own);
        let command = kubelet::command(&self.dir, serving, &self.master, self.driver)?;
        let mut kubelet = Process::spawn("kubelet", command, None, &self.dir.join("kubelet.log"))?;
        let answers = async || match kubelet.alive() {
            Err(ended) => Some(Err(ended)),
            Ok(()) => self.list(&["--insecure"]).is_ok().then_some(Ok(())),
        };
        poll::until("kubelet answers", PATIENCE, answers).await.with_context(|| kubelet.tail())??;
        self.kubelet = Some(kubelet);
        Ok(())
    }

    /// Makes kubelet a node of the API server's cluster, from its next start on.
    ///
    /// # Errors
    /// No certificate can be made for it.
    pub(super) fn join(&mut self) -> Result<()> {
        let user = self.ca.issue_user(&format!("system:node:{NAME}"), "system:nodes")?;
        let own = ca::write(&user, &self.dir, "node")?;
        let at = self.dir.join("kubeconfig");
        fs::write(&at, kubelet::kubeconfig(&self.ca_file(), &own).to_string())?;
        self.master = Master::Cluster(at);
        Ok(())
    }

    /// Kubelet is gone at once. Its pods go on.
    pub(super) fn stop_kubelet(&mut self) {
        self.kubelet = None;
    }

    /// Kubelet's own words, the last of them.
    pub(super) fn kubelet_says(&self) -> String {
        self.kubelet.as_ref().map(Process::tail).unwrap_or_default()
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub(super) fn token(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// Places a manifest, in the stead of one of the same name.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn place(&self, name: &str, manifest: &Value) -> Result<()> {
        // Renamed into place: kubelet may look at any time.
        let half = self.dir.join("manifest.half");
        fs::write(&half, manifest.to_string())?;
        Ok(fs::rename(half, self.dir.join("manifests").join(format!("{name}.json")))?)
    }

    /// # Errors
    /// It is not there.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.dir.join("manifests").join(format!("{name}.json")))?)
    }

    /// The list of pods as kubelet tells it, over TLS that is checked.
    ///
    /// # Errors
    /// It does not answer, or what it answers is no list.
    pub(super) fn pods(&self) -> Result<Value> {
        let said = self.list(&["--cacert", &self.ca_file().display().to_string()])?;
        serde_json::from_str(&said).with_context(|| said)
    }

    fn list(&self, trust: &[&str]) -> Result<String> {
        let [cert, key] = &self.admin;
        let mut command = Tool::Curl.command()?;
        command.args(["--silent", "--show-error", "--fail", "--max-time", "10"]).args(trust);
        run(command.arg("--cert").arg(cert).arg("--key").arg(key).arg(URL))
    }

    /// The logs of `container` of the pods called `pod`: see [`logs::of`].
    pub(super) fn logs(&self, pod: &str, container: &str) -> Vec<PathBuf> {
        logs::of(&self.dir.join("logs"), pod, container)
    }

    /// All that `container` of the pods called `pod` has said, of its restarts too.
    pub(super) fn said(&self, pod: &str, container: &str) -> String {
        self.logs(pod, container).iter().map(|log| logs::lines(log)).collect()
    }

    /// Where kubelet has the volumes of the pod with `uid`.
    pub(super) fn volumes(&self, uid: &str) -> PathBuf {
        self.dir.join("kubelet/pods").join(uid).join("volumes")
    }

    /// The first process of a container.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn pid(&self, container: &str) -> Result<u32> {
        let tasks = self.ctr(&["task", "ls"])?;
        let line = tasks.lines().find(|line| line.starts_with(container)).context("no such container")?;
        Ok(line.split_whitespace().nth(1).context("no pid")?.parse()?)
    }

    /// Runs containerd's own client among the containers of Kubernetes.
    ///
    /// # Errors
    /// It fails, with what it said.
    pub(super) fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.runtime.command("ctr")?;
        command.arg("--address").arg(self.dir.join("containerd.sock")).args(["--namespace", "k8s.io"]);
        run(command.args(arguments))
    }
}

pub(super) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{said}{error}", output.status);
    Ok(said)
}
