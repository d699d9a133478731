//! What all checks do: a server that asks for pods somewhere, containers that say what they have, and a verdict of each claim.

use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{CONTAINERS, PATIENCE, has};
use crate::kube::driver::Driver;
use crate::kube::logs::lines;
use crate::kube::node::Node;
use crate::kube::pods::{self, Running};
use crate::poll;
use crate::scratch::Scratch;
use crate::server::{Options, Server};

pub(super) struct Bench<'a> {
    pub(super) node: &'a mut Node,
    pub(super) scratch: &'a Scratch,
    pub(super) server: Server,
    pub(super) held: bool,
}

/// A server called `name` that asks at `url` for pods, with the token in `token`.
pub(super) async fn server(
    node: &Node,
    scratch: &Scratch,
    name: &str,
    url: &str,
    token: &Path,
) -> Result<Server> {
    // Kubelet lists no container of a pod before it has started the last, and on the one slow processor of the machine in
    // user mode systemd takes its time for each.
    let deadline = if node.driver == Driver::Systemd { "10s" } else { "2s" };
    let more = format!(
        "attestors:\n  deadline: {deadline}\n  kubernetes:\n    url: {url}\n    token_file: {}\n    ca_file: {}\n    refresh: 1s\n",
        token.display(),
        node.ca_file().display(),
    );
    Server::start(scratch, name, &Options { more, ..Options::default() }).await
}

impl Bench<'_> {
    pub(super) fn say(&mut self, what: &str, holds: bool) {
        self.held &= holds;
        println!("  {}  {what}", if holds { "yes" } else { "NO " });
    }

    pub(super) async fn running(&self, pod: &str, container: &str) -> Result<Running> {
        let probe = async || pods::running(&self.node.pods().ok()?, pod, container);
        poll::until(&format!("{container} of {pod} runs"), PATIENCE, probe).await
    }

    /// What `container` says of `wanted`, with the seconds since its start.
    pub(super) async fn told(&self, pod: &str, container: &str, wanted: &str) -> Result<String> {
        self.told_times(pod, container, wanted, 1).await
    }

    /// The same when it has been said so often.
    pub(super) async fn told_times(
        &self,
        pod: &str,
        container: &str,
        wanted: &str,
        times: usize,
    ) -> Result<String> {
        let probe = async || {
            let said = self.node.said(pod, container);
            let mut lines = said.lines().filter(|line| line.starts_with(wanted));
            lines.nth(times.saturating_sub(1)).map(str::to_owned)
        };
        let line = poll::until(&format!("{container} of {pod} says {wanted:?}"), PATIENCE, probe).await;
        line.with_context(|| format!("{}\n{}", self.node.said(pod, container), self.server.log()))
    }

    /// Kills the first process of `running`, which is `container`, for kubelet to start it again: the logs of its starts until now.
    pub(super) fn kill(&self, pod: &str, container: &str, running: &Running) -> Result<Vec<PathBuf>> {
        let logs = self.node.logs(pod, container);
        let pid = i32::try_from(self.node.pid(&running.id)?).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("pid")?, rustix::process::Signal::KILL)?;
        Ok(logs)
    }

    /// What `container` says of `wanted` once it has started again, after the starts of which `before` are the logs.
    pub(super) async fn told_anew(
        &self,
        pod: &str,
        container: &str,
        wanted: &str,
        before: &[PathBuf],
    ) -> Result<String> {
        let probe = async || {
            let logs = self.node.logs(pod, container);
            let said: String =
                logs.iter().filter(|log| !before.contains(log)).map(|log| lines(log)).collect();
            said.lines().find(|line| line.starts_with(wanted)).map(str::to_owned)
        };
        let what = format!("{container} of {pod}, started again, says {wanted:?}");
        poll::until(&what, 2 * PATIENCE, probe).await.with_context(|| self.server.log())
    }

    /// How often `container` has said that it has nothing.
    pub(super) fn lost(&self, pod: &str, container: &str) -> usize {
        self.node.said(pod, container).lines().filter(|line| line.starts_with("lacks")).count()
    }

    /// All containers of the pod `name`, of `app`, have their identities at their first call.
    pub(super) async fn identities(&mut self, name: &str, app: &str) -> Result<()> {
        for container in CONTAINERS {
            let line = self.told(name, container, &has(app, container)).await?;
            let said = self.node.said(name, container);
            let told = said.lines().filter(|line| line.starts_with("has ") || line.starts_with("lacks"));
            let told = told.count();
            self.say(&format!("{container}, at its first call: {line}"), told == 1);
            if told != 1 {
                println!("{said}");
            }
        }
        Ok(())
    }

    pub(super) fn explained(&self, pid: u32) -> Result<String> {
        let said = self.server.cli(&["explain", "pid", &pid.to_string()])?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// The container's first process has each of `selectors`.
    pub(super) fn explains(&mut self, container: &Running, selectors: &[String]) -> Result<()> {
        let explained = self.explained(self.node.pid(&container.id)?)?;
        for selector in selectors {
            self.say(&format!("explain gives {selector}"), explained.contains(selector));
        }
        if !self.held {
            println!("{explained}");
        }
        Ok(())
    }

    fn status(&self) -> String {
        let said = self.server.cli(&["status"]).map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Status says that the attestor fails, and `why`.
    pub(super) async fn failing(&mut self, why: &str) -> Result<()> {
        let probe = async || {
            let status = self.status();
            let line = status.lines().find(|l| l.contains("the attestor k8s fails") && l.contains(why))?;
            Some(line.trim().to_owned())
        };
        let line = poll::until(&format!("status has a failure with {why:?}"), 2 * PATIENCE, probe).await?;
        self.say(&format!("status: {line}"), true);
        Ok(())
    }

    pub(super) async fn works_again(&self) -> Result<()> {
        poll::holds("the attestor works again", PATIENCE, async || {
            !self.status().contains("the attestor k8s fails")
        })
        .await
    }

    /// Nothing is left of a pod that was removed but now: `pid` was one of its processes.
    pub(super) async fn gone(&mut self, pod: &str, pid: u32) -> Result<()> {
        let began = Instant::now();
        poll::holds("the processes are gone", PATIENCE, async || !is_pod(pid)).await?;
        let unstreamed = async || !self.streams().contains(&pid.to_string());
        poll::holds("its stream is gone", PATIENCE, unstreamed).await?;
        let unlisted =
            async || self.node.pods().is_ok_and(|list| pods::running(&list, pod, "main").is_none());
        poll::holds("kubelet lists it no more", PATIENCE, unlisted).await?;
        let after = began.elapsed().as_secs_f32();
        let what = format!(
            "{pod} is removed: gone with its process, its stream and its place on the list, {after:.1} s later"
        );
        self.say(&what, true);
        Ok(())
    }

    fn streams(&self) -> String {
        let said = self.server.cli(&["streams"]).map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// Whether `pid` is a process that runs what the pods run.
pub(super) fn is_pod(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("/pod"))
}

/// Writes the list of pods to the file that the variable of the environment names, if it is set: for the attestor's tests.
pub(super) fn keep(variable: &str, list: &Value) -> Result<()> {
    if let Some(at) = env::var_os(variable) {
        fs::write(at, serde_json::to_string_pretty(list)?)?;
    }
    Ok(())
}
