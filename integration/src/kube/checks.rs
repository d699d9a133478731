//! What is shown: who has which identity, who has none, and what a kubelet that is gone takes away.

mod outsiders;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::node::{NAME, Node, Serving, URL};
use super::pod_program;
use super::pods::{self, IMAGE, Quality, Running, USER};
use crate::poll;
use crate::scratch::Scratch;
use crate::server::{Options, Server};

/// Kubelet waits ten seconds before it starts a container again.
const PATIENCE: Duration = Duration::from_secs(90);
/// So long is looked that nothing comes.
const WHILE: Duration = Duration::from_secs(5);
const CONTAINERS: [&str; 3] = ["main", "side", "proxy"];

struct Bench {
    node: Node,
    server: Server,
    scratch: Scratch,
    held: bool,
}

/// Whether all holds. Runs inside the namespaces.
///
/// # Errors
/// Something does not start.
pub(super) async fn run() -> Result<bool> {
    let scratch = Scratch::new()?;
    let mut node = Node::start(&scratch, &pod_program()?).await?;
    println!("containerd: {}", node.ctr(&["version"])?.split_whitespace().collect::<Vec<_>>().join(" "));
    node.kubelet(Serving::Signed).await?;
    println!(
        "kubelet answers at {URL}; cgroups by the driver cgroupfs, no API server, pods from a directory"
    );
    let more = format!(
        "attestors:\n  kubernetes:\n    url: {URL}\n    token_file: {}\n    ca_file: {}\n    refresh: 1s\n",
        node.token().display(),
        node.ca().display(),
    );
    let server = Server::start(&scratch, "server", &Options { more, ..Options::default() }).await?;
    for app in ["web", "api"] {
        for container in CONTAINERS {
            let [label, name] =
                [format!("k8s:pod-label:app:{app}"), format!("k8s:container-name:{container}")];
            server.add_entry(&id(app, container), &["k8s:ns:shop", &label, &name])?;
        }
    }
    let mut bench = Bench { node, server, scratch, held: true };
    bench.run().await.with_context(|| bench.node.kubelet_says())?;
    println!("{}", if bench.held { "all of it holds" } else { "NOT all of it holds" });
    Ok(bench.held)
}

impl Bench {
    async fn run(&mut self) -> Result<()> {
        self.identities().await?;
        self.qualities().await?;
        outsiders::check(self).await?;
        for name in ["burstable", "guaranteed"] {
            self.node.remove(name)?;
        }
        self.executed().await?;
        self.restarted().await?;
        self.outages().await?;
        self.changed().await
    }

    fn say(&mut self, what: &str, holds: bool) {
        self.held &= holds;
        println!("  {}  {what}", if holds { "yes" } else { "NO " });
    }

    fn place(&self, name: &str, app: &str, quality: Quality) -> Result<()> {
        self.node.place(name, &pods::manifest(name, app, quality, &self.server.socket()))
    }

    async fn running(&self, pod: &str, container: &str) -> Result<Running> {
        let name = format!("{pod}-{NAME}");
        let probe = async || pods::running(&self.node.pods().ok()?, &name, container);
        poll::until(&format!("{container} of {pod} runs"), PATIENCE, probe).await
    }

    /// What `container` says of `wanted`, with the seconds since its start.
    async fn told(&self, pod: &str, container: &str, wanted: &str) -> Result<String> {
        let probe = async || {
            let said = self.node.said(pod, container);
            said.lines().find(|line| line.starts_with(&format!("{wanted} ("))).map(str::to_owned)
        };
        let line = poll::until(&format!("{container} of {pod} says {wanted:?}"), PATIENCE, probe).await;
        line.with_context(|| format!("{}\n{}", self.node.said(pod, container), self.server.log()))
    }

    fn explained(&self, pid: u32) -> Result<String> {
        let said = self.server.cli(&["explain", "pid", &pid.to_string()])?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    async fn identities(&mut self) -> Result<()> {
        println!("a pod of three containers, all of uid {USER}:");
        self.place("web", "web", Quality::BestEffort)?;
        for container in CONTAINERS {
            let line = self.told("web", container, &has("web", container)).await?;
            let said = self.node.said("web", container);
            let told =
                said.lines().filter(|line| line.starts_with("has ") || line.starts_with("lacks")).count();
            self.say(&format!("{container}, at its first call: {line}"), told == 1);
        }
        let main = self.running("web", "main").await?;
        let explained = self.explained(self.node.pid(&main.id)?)?;
        let image = format!("k8s:container-image:{}", self.node.image_id);
        let expected = [
            "k8s:ns:shop",
            &format!("k8s:pod-name:web-{NAME}"),
            &format!("k8s:pod-uid:{}", main.pod),
            &format!("k8s:node-name:{NAME}"),
            "k8s:pod-label:app:web",
            "k8s:container-name:main",
            &format!("k8s:container-image:{IMAGE}"),
            &image,
        ];
        for selector in expected {
            self.say(&format!("explain gives {selector}"), explained.contains(selector));
        }
        if !self.held {
            println!("{explained}");
        }
        // For the fixtures of the attestor's own tests.
        let list = serde_json::to_string_pretty(&self.node.pods()?)?;
        if let Some(at) = std::env::var_os("KUBE_CHECK_LIST") {
            fs::write(at, list)?;
        }
        Ok(())
    }

    async fn qualities(&mut self) -> Result<()> {
        println!("the three places where kubelet has its pods:");
        for (name, quality, at) in [
            ("web", Quality::BestEffort, "/kubepods/besteffort/pod"),
            ("burstable", Quality::Burstable, "/kubepods/burstable/pod"),
            ("guaranteed", Quality::Guaranteed, "/kubepods/pod"),
        ] {
            self.place(name, "web", quality)?;
            let main = self.running(name, "main").await?;
            let stands = fs::read_to_string(format!("/proc/{}/cgroup", self.node.pid(&main.id)?))?;
            let path = format!("{at}{}/{}", main.pod, main.id);
            self.told(name, "main", &has("web", "main")).await?;
            self.say(&format!("{quality:?}: {path}"), stands.lines().any(|line| line.ends_with(&path)));
        }
        Ok(())
    }

    /// A process that joins the container later is of it.
    async fn executed(&mut self) -> Result<()> {
        let main = self.running("web", "main").await?;
        let arguments = ["task", "exec", "--exec-id", "later", &main.id, "/pod", "once", "/api.sock"];
        let said = self.node.ctr(&arguments)?;
        self.say(&format!("executed in main: {}", said.trim()), said.contains(&id("web", "main")));
        Ok(())
    }

    async fn restarted(&mut self) -> Result<()> {
        println!("main is killed, and kubelet starts it again:");
        let before = self.running("web", "main").await?;
        let pid = i32::try_from(self.node.pid(&before.id)?).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("pid")?, rustix::process::Signal::KILL)?;
        let wanted = has("web", "main");
        let twice = async || {
            let said = self.node.said("web", "main");
            let mut lines = said.lines().filter(|line| line.starts_with(&wanted));
            lines.nth(1).map(str::to_owned)
        };
        let line = poll::until("the new one has its identity", PATIENCE, twice).await?;
        let after = self.running("web", "main").await?;
        self.say(&format!("another container says: {line}"), before.id != after.id);
        Ok(())
    }

    async fn outages(&mut self) -> Result<()> {
        println!("kubelet ends, comes back with a certificate of its own making, and with the right one:");
        let lost = |bench: &Self| bench.node.said("web", "side").matches("lacks").count();
        let before = lost(self);
        self.node.stop_kubelet();
        let line = self.failing("cannot be reached").await?;
        self.say(&format!("status: {line}"), true);
        self.node.kubelet(Serving::SelfSigned).await?;
        let line = self.failing("certificate").await?;
        self.say(&format!("status: {line}"), true);
        self.node.kubelet(Serving::Signed).await?;
        poll::holds("the attestor works again", PATIENCE, async || {
            !self.status().contains("the attestor k8s fails")
        })
        .await?;
        tokio::time::sleep(WHILE).await;
        self.say("a pod that was known has lost nothing all the while", lost(self) == before);
        Ok(())
    }

    fn status(&self) -> String {
        let said = self.server.cli(&["status"]).map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    async fn failing(&self, why: &str) -> Result<String> {
        let probe = async || {
            let status = self.status();
            let line = status.lines().find(|l| l.contains("the attestor k8s fails") && l.contains(why))?;
            Some(line.trim().to_owned())
        };
        poll::until(&format!("status has a failure with {why:?}"), PATIENCE, probe).await
    }

    /// A static pod with another label is another pod.
    async fn changed(&mut self) -> Result<()> {
        println!("the label is another, then the pod is removed:");
        let before = self.running("web", "main").await?;
        let pid = self.node.pid(&before.id)?;
        self.place("web", "api", Quality::BestEffort)?;
        let line = self.told("web", "main", &has("api", "main")).await?;
        let after = self.running("web", "main").await?;
        let gone = self.node.pid(&before.id).is_err() && !is_pod(pid);
        self.say(&format!("main says: {line}"), gone && before.pod != after.pod);
        let pid = self.node.pid(&after.id)?;
        self.node.remove("web")?;
        let began = Instant::now();
        poll::holds("the processes are gone", PATIENCE, async || !is_pod(pid)).await?;
        poll::holds("nobody is connected", PATIENCE, async || !self.connected()).await?;
        let unlisted =
            async || self.node.pods().is_ok_and(|list| pods::running(&list, "web", "main").is_none());
        poll::holds("kubelet lists it no more", PATIENCE, unlisted).await?;
        let after = began.elapsed().as_secs_f32();
        self.say(
            &format!(
                "removed: gone with its process, its stream and its place on the list, {after:.1} s later"
            ),
            true,
        );
        Ok(())
    }

    fn connected(&self) -> bool {
        let said = self.server.cli(&["streams"]).map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).contains("spiffe://")
    }
}

/// Whether `pid` is a process that runs what the pods run.
fn is_pod(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("/pod"))
}

fn id(app: &str, container: &str) -> String {
    format!("spiffe://example.org/{app}/{container}")
}

fn has(app: &str, container: &str) -> String {
    format!("has {}", id(app, container))
}
