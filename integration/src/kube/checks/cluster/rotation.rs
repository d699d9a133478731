//! A token that kubelet puts into a pod, for ten minutes, and replaces before they are over.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::super::bench;
use super::super::has;
use super::{Joined, listed};
use crate::kube::accounts::{AGENTS, Account, SHOP};
use crate::kube::cluster::pods;
use crate::kube::pods::{IMAGE, bound};
use crate::poll;
use crate::server::Server;

/// The shortest life that the API server gives.
const LIFE: Duration = Duration::from_secs(600);
/// So long the API server takes it after that: clocks differ.
const LEEWAY: Duration = Duration::from_secs(60);
/// Kubelet replaces it after four fifths, when it next looks at the pod.
const PATIENCE: Duration = Duration::from_secs(700);
const POD: &str = "agent";

/// A server that asks with such a token, since its first.
pub(super) struct Rotated {
    server: Server,
    token: PathBuf,
    first: String,
    began: Instant,
}

/// Makes the pod whose token it is, of an account that may list the pods of one namespace.
pub(super) async fn begin(joined: &mut Joined<'_>) -> Result<Rotated> {
    let account = Account::ListsPodsOfShop.name();
    let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": LIFE.as_secs() } });
    let pod = json!({
        "metadata": { "name": POD },
        "spec": {
            "hostNetwork": true, "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "main", "image": IMAGE, "imagePullPolicy": "Never",
                             "volumeMounts": [{ "name": "own", "mountPath": "/own" }] }],
            "volumes": [{ "name": "own", "projected": { "sources": [token] } }],
        },
    });
    joined.cluster.create(&pods(Some(AGENTS)), &bound(pod, account))?;
    let began = Instant::now();
    let main = joined.bench.running(POD, "main").await?;
    let token = joined.bench.node.volumes(&main.pod).join("kubernetes.io~projected/own/token");
    let first = fs::read_to_string(&token).with_context(|| token.display().to_string())?;
    let url = listed(Some(SHOP));
    let bench = &joined.bench;
    let server = bench::server(bench.node, bench.scratch, "asks-with-a-pods-token", &url, &token).await?;
    Ok(Rotated { server, token, first, began })
}

impl Rotated {
    /// When the first token is over, the server goes on with what kubelet has put in its place.
    pub(super) async fn check(self, joined: &mut Joined<'_>) -> Result<()> {
        println!("the token of a pod, at {}:", listed(Some(SHOP)));
        joined.bench.server = self.server;
        joined.entries()?;
        joined.make("last", "web", "web")?;
        let line = joined.bench.told("last", "main", &has("web", "main")).await?;
        joined.bench.say(&format!("with the right to list the pods of {SHOP} alone: {line}"), true);
        let other = async || fs::read_to_string(&self.token).is_ok_and(|now| now != self.first);
        poll::holds("kubelet has replaced the token", PATIENCE.saturating_sub(self.began.elapsed()), other)
            .await?;
        let after = self.began.elapsed().as_secs();
        joined.bench.say(&format!("kubelet has replaced it {after} s after it was made, or before"), true);
        let over = LIFE + LEEWAY + Duration::from_secs(5);
        tokio::time::sleep(over.saturating_sub(self.began.elapsed())).await;
        let refused =
            joined.cluster.asked_with(&self.first, &pods(Some(SHOP))).map(|_| "it takes it".to_owned());
        let why = refused.unwrap_or_else(|why| format!("{why:#}"));
        let after = self.began.elapsed().as_secs();
        let what = if why.contains("401") { "401" } else { &why };
        joined.bench.say(&format!("the first one after {after} s: {what}"), what == "401");
        joined.label("last", "other")?;
        let bench = &joined.bench;
        poll::holds("main has nothing", PATIENCE, async || bench.lost("last", "main") > 0).await?;
        joined
            .bench
            .say("the server goes on with the new one: a label changed by the API takes the identity", true);
        joined.delete("last").await
    }
}
