//! Pods of an API server, with service accounts; both sources of pods, asked with tokens of service accounts.

mod api;
mod kubelet;
mod rights;
mod rotation;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::bench::{self, Bench};
use super::{CONTAINERS, id};
use crate::kube::accounts::{self, Account, SHOP, WORKLOADS};
use crate::kube::cluster::{Cluster, pods};
use crate::kube::kubelet::Serving;
use crate::kube::node::{API, NAME, Node};
use crate::kube::pods::{Quality, bound, manifest};
use crate::scratch::Scratch;

/// Pods of an API server, and a server of ours that asks one of the two sources for them.
struct Joined<'a> {
    bench: Bench<'a>,
    cluster: Cluster,
    /// The file of the token that is asked with.
    token: PathBuf,
}

/// Whether all holds.
///
/// # Errors
/// Something does not start.
pub(super) async fn check(node: &mut Node, scratch: &Scratch) -> Result<bool> {
    let cluster = Cluster::start(scratch, node).await?;
    accounts::make(&cluster, node)?;
    node.join()?;
    node.kubelet(Serving::Signed).await?;
    println!("kubelet is the node {NAME} of an API server's cluster; tokens and rights are its to judge");
    let token = scratch.path().join("token-of-account");
    fs::write(&token, cluster.token(Account::ListsPods, None)?)?;
    let server = bench::server(node, scratch, "asks-api", &listed(None), &token).await?;
    let mut joined = Joined { bench: Bench { node, server, scratch, held: true }, cluster, token };
    let checked = joined.run().await;
    checked.with_context(|| joined.cluster.says())?;
    Ok(joined.bench.held)
}

/// Where the API server has this node's pods, of `namespace` or of all.
fn listed(namespace: Option<&str>) -> String {
    format!("https://{API}{}?fieldSelector=spec.nodeName={NAME}", pods(namespace))
}

impl Joined<'_> {
    async fn run(&mut self) -> Result<()> {
        let rotated = rotation::begin(self).await?;
        self.entries()?;
        api::check(self).await?;
        rights::of_api(self).await?;
        kubelet::check(self).await?;
        rotated.check(self).await
    }

    /// An identity for each container of each service account, if its label says the same.
    fn entries(&self) -> Result<()> {
        for account in WORKLOADS {
            for container in CONTAINERS {
                let selectors = ["sa", "pod-label:app"].map(|key| format!("k8s:{key}:{account}"));
                let name = format!("k8s:container-name:{container}");
                let [sa, label] = &selectors;
                self.bench.server.add_entry(&id(account, container), &["k8s:ns:shop", sa, label, &name])?;
            }
        }
        Ok(())
    }

    /// Makes the pod `name` of `account` with the label `app`.
    fn make(&self, name: &str, account: &str, app: &str) -> Result<()> {
        let pod = manifest(name, app, Quality::BestEffort, &self.bench.server.socket());
        self.cluster.create(&pods(Some(SHOP)), &bound(pod, account)).map(drop)
    }

    fn label(&self, name: &str, app: &str) -> Result<()> {
        let change = json!({ "metadata": { "labels": { "app": app } } });
        self.cluster.change(&format!("{}/{name}", pods(Some(SHOP))), &change)
    }

    /// Deletes the pod `name`, and waits until nothing is left of it.
    async fn delete(&mut self, name: &str) -> Result<()> {
        let main = self.bench.running(name, "main").await?;
        let pid = self.bench.node.pid(&main.id)?;
        self.cluster.delete(&format!("{}/{name}", pods(Some(SHOP))))?;
        self.bench.gone(name, pid).await
    }

    /// From now on it is asked with a token of `account`.
    fn ask_as(&self, account: Account) -> Result<()> {
        self.ask_with(&self.cluster.token(account, None)?)
    }

    fn ask_with(&self, token: &str) -> Result<()> {
        // Renamed into place: it may be read at any time.
        let half = self.token.with_extension("half");
        fs::write(&half, token)?;
        Ok(fs::rename(half, &self.token)?)
    }
}
