//! Which rights do, which do not, and what a token that is refused takes away.

use anyhow::Result;

use super::super::has;
use super::Joined;
use crate::kube::accounts::{AGENTS, Account, named};

/// The API server as the source.
pub(super) async fn of_api(joined: &mut Joined<'_>) -> Result<()> {
    println!("tokens of accounts with other rights, for the API server:");
    for account in [Account::Powerless, Account::GetsPods, Account::GetsNodesPods, Account::ListsPodsOfShop] {
        refused(joined, account, "web").await?;
    }
    withdrawn(joined).await
}

/// `account` may not list: it shows, the pod `known` loses nothing, and a new one has nothing until another token is there.
pub(super) async fn refused(joined: &mut Joined<'_>, account: Account, known: &str) -> Result<()> {
    let right = std::fs::read_to_string(&joined.token)?;
    println!(" {}:", account.name());
    let before = joined.bench.lost(known, "main");
    joined.ask_as(account)?;
    joined.bench.failing("403").await?;
    let new = format!("new-{}", account.name());
    joined.make(&new, "web", "web")?;
    let line = joined.bench.told(&new, "main", "lacks").await?;
    joined.bench.say(&format!("a new pod: {line}"), !joined.bench.node.said(&new, "main").contains("has "));
    joined.ask_with(&right)?;
    let line = joined.bench.told(&new, "main", &has("web", "main")).await?;
    joined.bench.say(&format!("with the right token: {line}"), true);
    joined.bench.works_again().await?;
    let held = joined.bench.lost(known, "main") == before;
    joined.bench.say("a pod that was known has lost nothing", held);
    joined.delete(&new).await
}

/// A token that ends before its time, since what it was bound to is gone.
pub(super) async fn withdrawn(joined: &mut Joined<'_>) -> Result<()> {
    println!(" a token that is withdrawn, and a new one in its file:");
    let before = joined.bench.lost("web", "main");
    let secrets = format!("/api/v1/namespaces/{AGENTS}/secrets");
    joined.cluster.create(&secrets, &named("hold"))?;
    joined.ask_with(&joined.cluster.token(Account::ListsPods, Some("hold"))?)?;
    joined.bench.works_again().await?;
    joined.cluster.delete(&format!("{secrets}/hold"))?;
    joined.bench.failing("401").await?;
    joined.ask_as(Account::ListsPods)?;
    joined.bench.works_again().await?;
    let held = joined.bench.lost("web", "main") == before;
    joined.bench.say("the new one does, and a pod that was known has lost nothing", held);
    Ok(())
}
