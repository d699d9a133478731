//! Pods of a directory, under a kubelet without an API server.

use std::fs;

use anyhow::Result;

use super::bench::{self, Bench, is_pod, keep};
use super::{CONTAINERS, WHILE, has, id, outsiders};
use crate::kube::kubelet::Serving;
use crate::kube::node::{NAME, Node, URL};
use crate::kube::pods::{self, Quality, USER};
use crate::scratch::Scratch;

/// Whether all holds.
///
/// # Errors
/// Something does not start.
pub(super) async fn check(node: &mut Node, scratch: &Scratch) -> Result<bool> {
    node.kubelet(Serving::Signed).await?;
    println!(
        "kubelet answers at {URL}; cgroups by the driver {}, no API server, pods from a directory",
        node.driver.name()
    );
    let server = bench::server(node, scratch, "server", URL, &node.token()).await?;
    for app in ["web", "api"] {
        for container in CONTAINERS {
            let [label, name] =
                [format!("k8s:pod-label:app:{app}"), format!("k8s:container-name:{container}")];
            server.add_entry(&id(app, container), &["k8s:ns:shop", &label, &name])?;
        }
    }
    let mut bench = Bench { node, server, scratch, held: true };
    bench.identities_of_web().await?;
    bench.qualities().await?;
    outsiders::check(&mut bench).await?;
    for name in ["burstable", "guaranteed"] {
        bench.node.remove(name)?;
    }
    bench.executed().await?;
    bench.restarted().await?;
    bench.outages().await?;
    bench.changed().await?;
    Ok(bench.held)
}

/// As kubelet calls the pod of a manifest.
pub(super) fn named(name: &str) -> String {
    format!("{name}-{NAME}")
}

impl Bench<'_> {
    fn place(&self, name: &str, app: &str, quality: Quality) -> Result<()> {
        self.node.place(name, &pods::manifest(name, app, quality, &self.server.socket()))
    }

    async fn identities_of_web(&mut self) -> Result<()> {
        println!("a pod of three containers, all of uid {USER}:");
        self.place("web", "web", Quality::BestEffort)?;
        let web = named("web");
        self.identities(&web, "web").await?;
        let main = self.running(&web, "main").await?;
        let mut expected = pods::selectors(&web, "web", "main", &main);
        expected.push(format!("k8s:container-image:{}", self.node.image_id));
        self.explains(&main, &expected)?;
        keep("KUBE_CHECK_LIST", &self.node.pods()?)
    }

    async fn qualities(&mut self) -> Result<()> {
        println!("the three places where kubelet has its pods:");
        for (name, quality) in [
            ("web", Quality::BestEffort),
            ("burstable", Quality::Burstable),
            ("guaranteed", Quality::Guaranteed),
        ] {
            self.place(name, "web", quality)?;
            let main = self.running(&named(name), "main").await?;
            let stands = fs::read_to_string(format!("/proc/{}/cgroup", self.node.pid(&main.id)?))?;
            let driver = self.node.driver;
            let path = format!("/{}/{}", driver.pod(quality, &main.pod), driver.container(&main.id));
            self.told(&named(name), "main", &has("web", "main")).await?;
            self.say(&format!("{quality:?}: {path}"), stands.lines().any(|line| line.ends_with(&path)));
        }
        Ok(())
    }

    /// A process that joins the container later is of it.
    async fn executed(&mut self) -> Result<()> {
        let main = self.running(&named("web"), "main").await?;
        let arguments = ["task", "exec", "--exec-id", "later", &main.id, "/pod", "once", "/api.sock"];
        let said = self.node.ctr(&arguments)?;
        self.say(&format!("executed in main: {}", said.trim()), said.contains(&id("web", "main")));
        Ok(())
    }

    async fn restarted(&mut self) -> Result<()> {
        println!("main is killed, and kubelet starts it again:");
        let web = named("web");
        let main = self.running(&web, "main").await?;
        let before = self.kill(&web, "main", &main)?;
        let line = self.told_anew(&web, "main", &has("web", "main"), &before).await?;
        self.say(&format!("another container says: {line}"), true);
        Ok(())
    }

    async fn outages(&mut self) -> Result<()> {
        println!("kubelet ends, comes back with a certificate of its own making, and with the right one:");
        let before = self.lost(&named("web"), "side");
        self.node.stop_kubelet();
        self.failing("cannot be reached").await?;
        self.node.kubelet(Serving::SelfSigned).await?;
        self.failing("certificate").await?;
        self.node.kubelet(Serving::Signed).await?;
        self.works_again().await?;
        tokio::time::sleep(WHILE).await;
        let after = self.lost(&named("web"), "side");
        self.say("a pod that was known has lost nothing all the while", after == before);
        Ok(())
    }

    /// A static pod with another label is another pod.
    async fn changed(&mut self) -> Result<()> {
        println!("the label is another, then the pod is removed:");
        let web = named("web");
        let before = self.running(&web, "main").await?;
        let pid = self.node.pid(&before.id)?;
        self.place("web", "api", Quality::BestEffort)?;
        let line = self.told(&web, "main", &has("api", "main")).await?;
        let after = self.running(&web, "main").await?;
        let gone = self.node.pid(&before.id).is_err() && !is_pod(pid);
        self.say(&format!("main says: {line}"), gone && before.pod != after.pod);
        let pid = self.node.pid(&after.id)?;
        self.node.remove("web")?;
        self.gone(&web, pid).await
    }
}
