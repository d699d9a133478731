//! A node without a cluster: containerd, and a kubelet that runs what lies in a directory.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::image;
use super::pods::IMAGE;
use crate::ca::{self, Ca};
use crate::poll;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::tools::kubernetes::{Part, Runtime};
use crate::tools::network::Tool;

/// What the node is called.
pub(super) const NAME: &str = "n1";
/// Where kubelet has the list of its pods.
pub(super) const URL: &str = "https://127.0.0.1:10250/pods";
const PATIENCE: Duration = Duration::from_secs(120);

/// Whose certificate kubelet shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    /// One of the cluster's CA.
    Signed,
    /// One that it makes and signs itself: so does a kubelet that nobody gave one.
    SelfSigned,
}

pub(super) struct Node {
    dir: PathBuf,
    runtime: Runtime,
    ca: Ca,
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
    pub(super) async fn start(scratch: &Scratch, pod: &Path) -> Result<Self> {
        let dir = scratch.dir("node", None)?;
        // Sockets of containerd's shims and for plugins of kubelet, links to logs: their places are not to be configured.
        for at in ["/run", "/var/log", "/var/lib"] {
            run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", at]))?;
        }
        run(Tool::Ip.command()?.args(["link", "set", "lo", "up"]))?;
        let ca = Ca::new("the cluster's", None)?;
        fs::write(dir.join("ca.crt"), ca.pem())?;
        // Without an API server nobody can tell tokens apart: kubelet takes all as nobody's, and nobody may ask all.
        fs::write(dir.join("token"), "nobody-asks-for-it\n")?;
        for place in ["manifests", "logs", "plugins"] {
            fs::create_dir_all(dir.join(place))?;
        }
        let runtime = Runtime::unpacked()?;
        let containerd = containerd(&runtime, &dir)?;
        let (archive, image_id) = image::make(&scratch.dir("image", None)?, IMAGE, pod)?;
        let node = Self { dir, runtime, ca, image_id, _containerd: containerd, kubelet: None };
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
        let [cert, key] = ca::write(&self.ca.issue_at(Ipv4Addr::LOCALHOST.into())?, &self.dir, "kubelet")?;
        let at = |leaf: &str| self.dir.join(leaf).display().to_string();
        let mut config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "address": "127.0.0.1", "healthzPort": 0, "readOnlyPort": 0,
            "cgroupDriver": "cgroupfs", "failCgroupV1": false, "failSwapOn": false,
            "containerRuntimeEndpoint": format!("unix://{}", at("containerd.sock")),
            "staticPodPath": at("manifests"), "fileCheckFrequency": "1s",
            "podLogsDir": at("logs"), "volumePluginDir": at("plugins"),
            // The disk is the machine's, and full or not: nothing is thrown out for it.
            "evictionHard": { "memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%",
                              "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%" },
            "imageGCHighThresholdPercent": 100, "localStorageCapacityIsolation": false,
            "makeIPTablesUtilChains": false,
        });
        if let (Serving::Signed, Some(fields)) = (serving, config.as_object_mut()) {
            fields.insert("tlsCertFile".into(), json!(cert));
            fields.insert("tlsPrivateKeyFile".into(), json!(key));
        }
        fs::write(self.dir.join("kubelet.json"), config.to_string())?;
        let mut command = Command::new(Part::Kubelet.built()?);
        command.args([
            "--config",
            &at("kubelet.json"),
            "--root-dir",
            &at("kubelet"),
            "--cert-dir",
            &at("pki"),
        ]);
        command.args(["--hostname-override", NAME]);
        let mut kubelet = Process::spawn("kubelet", command, None, &self.dir.join("kubelet.log"))?;
        let answers = async || match kubelet.alive() {
            Err(ended) => Some(Err(ended)),
            Ok(()) => curl(&["--insecure"]).is_ok().then_some(Ok(())),
        };
        poll::until("kubelet answers", PATIENCE, answers).await.with_context(|| kubelet.tail())??;
        self.kubelet = Some(kubelet);
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

    pub(super) fn ca(&self) -> PathBuf {
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
        let said = curl(&["--cacert", &self.ca().display().to_string()])?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// All that `container` of the pods called `pod` has said, of its restarts too.
    pub(super) fn said(&self, pod: &str, container: &str) -> String {
        let start = format!("shop_{pod}-{NAME}_");
        let pods = entries(&self.dir.join("logs"));
        let ours = pods
            .iter()
            .filter(|dir| dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&start)));
        let files = ours.flat_map(|dir| entries(&dir.join(container)));
        // `2026-01-01T… stdout F has …`
        let texts = files.filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>().concat();
        let lines = texts.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        lines.flat_map(|line| [line, "\n"]).collect()
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

fn containerd(runtime: &Runtime, dir: &Path) -> Result<Process> {
    let at = |leaf: &str| dir.join(leaf).display().to_string();
    let config = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = \"{}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{IMAGE}\"\ndisable_tcp_service = true\n\
         restrict_oom_score_adj = true\n",
        at("containerd/root"),
        at("containerd/state"),
        at("containerd.sock"),
    );
    fs::write(dir.join("containerd.toml"), config)?;
    let mut command = runtime.command("containerd")?;
    command.args(["--config", &at("containerd.toml")]);
    Process::spawn("containerd", command, None, &dir.join("containerd.log"))
}

fn curl(trust: &[&str]) -> Result<String> {
    run(Tool::Curl
        .command()?
        .args(["--silent", "--show-error", "--fail", "--max-time", "10"])
        .args(trust)
        .arg(URL))
}

/// What lies in a directory, by name.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
