//! The API server as the source of pods, asked with the right to list them.

use std::time::Instant;

use anyhow::Result;

use super::super::bench::{is_pod, keep};
use super::super::directory::named;
use super::super::{PATIENCE, WHILE, has, id};
use super::{Joined, listed};
use crate::kube::accounts::SHOP;
use crate::kube::cluster::pods;
use crate::kube::kubelet::Serving;
use crate::kube::pods::{Quality, manifest, selectors};
use crate::poll;

pub(super) async fn check(joined: &mut Joined<'_>) -> Result<()> {
    println!("the API server is asked, at {}:", listed(None));
    identities(joined).await?;
    accounts(joined).await?;
    mirrored(joined).await?;
    labelled(joined).await?;
    abandoned(joined).await?;
    outage(joined).await
}

async fn identities(joined: &mut Joined<'_>) -> Result<()> {
    joined.make("web", "web", "web")?;
    joined.bench.identities("web", "web").await?;
    let main = joined.bench.running("web", "main").await?;
    let mut expected = selectors("web", "web", "main", &main);
    expected.push("k8s:sa:web".to_owned());
    expected.push(format!("k8s:container-image:{}", joined.bench.node.image_id));
    joined.bench.explains(&main, &expected)
}

/// The label alone does not do: the service account is another.
async fn accounts(joined: &mut Joined<'_>) -> Result<()> {
    joined.make("liar", "api", "web")?;
    let line = joined.bench.told("liar", "main", "lacks").await?;
    let said = joined.bench.node.said("liar", "main");
    joined.bench.say(&format!("a pod with web's label and another account: {line}"), !said.contains("has "));
    joined.delete("liar").await
}

/// A pod of the node's directory is on the API server's list as a mirror, with a uid that its cgroup has not.
async fn mirrored(joined: &mut Joined<'_>) -> Result<()> {
    let bench = &mut joined.bench;
    bench.node.place("local", &manifest("local", "local", Quality::BestEffort, &bench.server.socket()))?;
    bench.server.add_entry(&id("local", "main"), &["k8s:pod-name:local-n1", "k8s:container-name:main"])?;
    let line = bench.told(&named("local"), "main", &has("local", "main")).await?;
    bench.say(&format!("a pod of the directory, by its mirror: {line}"), true);
    keep("KUBE_CHECK_API_LIST", &joined.cluster.list(&pods(Some(SHOP)))?)?;
    joined.bench.node.remove("local")
}

async fn labelled(joined: &mut Joined<'_>) -> Result<()> {
    println!("web's label is changed by the API, and changed back:");
    let bench = &joined.bench;
    let lost = bench.lost("web", "main");
    let began = Instant::now();
    joined.label("web", "other")?;
    poll::holds("main has nothing", PATIENCE, async || bench.lost("web", "main") > lost).await?;
    let after = began.elapsed().as_secs_f32();
    joined.bench.say(&format!("main has nothing {after:.1} s later"), true);
    let began = Instant::now();
    joined.label("web", "web")?;
    joined.bench.told_times("web", "main", &has("web", "main"), 2).await?;
    joined.bench.say(&format!("main has it again {:.1} s later", began.elapsed().as_secs_f32()), true);
    Ok(())
}

/// A pod that is deleted at once, while its node does nothing about it.
async fn abandoned(joined: &mut Joined<'_>) -> Result<()> {
    println!("a pod is deleted without grace, while kubelet is gone:");
    joined.make("left", "web", "web")?;
    joined.bench.told("left", "main", &has("web", "main")).await?;
    let pid = joined.bench.node.pid(&joined.bench.running("left", "main").await?.id)?;
    let (web, left) = (joined.bench.lost("web", "main"), joined.bench.lost("left", "main"));
    joined.bench.node.stop_kubelet();
    joined.cluster.delete(&format!("{}/left?gracePeriodSeconds=0", pods(Some(SHOP))))?;
    let began = Instant::now();
    let bench = &joined.bench;
    poll::holds("main has nothing", PATIENCE, async || bench.lost("left", "main") > left).await?;
    let after = began.elapsed().as_secs_f32();
    joined.bench.say(&format!("its process lives, and has nothing {after:.1} s later"), is_pod(pid));
    joined.bench.node.kubelet(Serving::Signed).await?;
    poll::holds("the process is gone", PATIENCE, async || !is_pod(pid)).await?;
    let held = joined.bench.lost("web", "main") == web;
    joined.bench.say("kubelet is back and ends it; a pod that was known has lost nothing", held);
    Ok(())
}

/// Known pods keep what they have; what starts meanwhile waits for the API server.
async fn outage(joined: &mut Joined<'_>) -> Result<()> {
    println!("the API server is gone, kubelet starts main again, and the API server is back:");
    let side = joined.bench.lost("web", "side");
    let main = joined.bench.running("web", "main").await?;
    let known = has("web", "main");
    joined.cluster.stop();
    joined.bench.failing("cannot be reached").await?;
    let before = joined.bench.kill("web", "main", &main)?;
    joined.bench.told_anew("web", "main", "lacks", &before).await?;
    joined.bench.say("main that began meanwhile has nothing", true);
    tokio::time::sleep(WHILE).await;
    joined.cluster.serve().await?;
    let line = joined.bench.told_anew("web", "main", &known, &before).await?;
    joined.bench.say(&format!("the API server is back: {line}"), true);
    joined.bench.works_again().await?;
    let held = joined.bench.lost("web", "side") == side;
    joined.bench.say("side, which was known, has lost nothing all the while", held);
    Ok(())
}
