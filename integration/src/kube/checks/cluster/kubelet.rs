//! Kubelet as the source of pods, which has the API server judge tokens and rights.

use std::time::Instant;

use anyhow::Result;

use super::super::bench::{self, keep};
use super::super::{PATIENCE, has};
use super::{Joined, rights};
use crate::kube::accounts::Account;
use crate::kube::node::URL;
use crate::kube::pods::selectors;
use crate::poll;

const POD: &str = "second";

pub(super) async fn check(joined: &mut Joined<'_>) -> Result<()> {
    println!("kubelet is asked, at {URL}, with the right to get nodes/pods:");
    joined.delete("web").await?;
    joined.ask_as(Account::GetsNodesPods)?;
    let bench = &mut joined.bench;
    bench.server = bench::server(bench.node, bench.scratch, "asks-kubelet", URL, &joined.token).await?;
    joined.entries()?;
    joined.make(POD, "web", "web")?;
    joined.bench.identities(POD, "web").await?;
    let main = joined.bench.running(POD, "main").await?;
    let mut expected = selectors(POD, "web", "main", &main);
    expected.push("k8s:sa:web".to_owned());
    joined.bench.explains(&main, &expected)?;
    keep("KUBE_CHECK_JOINED_LIST", &joined.bench.node.pods()?)?;
    labelled(joined).await?;
    println!("tokens of accounts with other rights, for kubelet:");
    for account in [Account::Powerless, Account::ListsPods] {
        rights::refused(joined, account, POD).await?;
    }
    println!(" a token of nobody:");
    joined.ask_with("nobodys")?;
    joined.bench.failing("401").await?;
    joined.ask_as(Account::GetsNodesPods)?;
    joined.bench.works_again().await?;
    outage(joined).await?;
    joined.delete(POD).await
}

async fn labelled(joined: &mut Joined<'_>) -> Result<()> {
    let lost = joined.bench.lost(POD, "main");
    let began = Instant::now();
    joined.label(POD, "other")?;
    let bench = &joined.bench;
    poll::holds("main has nothing", PATIENCE, async || bench.lost(POD, "main") > lost).await?;
    let after = began.elapsed().as_secs_f32();
    joined.bench.say(&format!("a label changed by the API: main has nothing {after:.1} s later"), true);
    joined.label(POD, "web")?;
    joined.bench.told_times(POD, "main", &has("web", "main"), 2).await.map(drop)
}

/// Kubelet lists a container as the API server has it, and judges tokens by what it remembers, for a while.
async fn outage(joined: &mut Joined<'_>) -> Result<()> {
    println!("the API server is gone, kubelet starts main again, and the API server is back:");
    let side = joined.bench.lost(POD, "side");
    let main = joined.bench.running(POD, "main").await?;
    let known = has("web", "main");
    joined.cluster.stop();
    let began = Instant::now();
    let before = joined.bench.kill(POD, "main", &main)?;
    joined.bench.told_anew(POD, "main", "lacks", &before).await?;
    joined
        .bench
        .say("main that began meanwhile has nothing: kubelet has its status from the API server", true);
    joined.bench.failing("k8s fails").await?;
    let after = began.elapsed().as_secs_f32();
    joined.bench.say(&format!("so it is {after:.0} s after the API server went"), true);
    joined.cluster.serve().await?;
    let line = joined.bench.told_anew(POD, "main", &known, &before).await?;
    joined.bench.say(&format!("the API server is back: {line}"), true);
    let held = joined.bench.lost(POD, "side") == side;
    joined.bench.say("side, which was known, has lost nothing all the while", held);
    Ok(())
}
