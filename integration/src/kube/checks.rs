//! What is shown: who has which identity, who has none, and what a source of pods that is gone takes away.

mod bench;
mod cluster;
mod directory;
mod outsiders;

use std::time::Duration;

use anyhow::{Context, Result};

use super::driver::Driver;
use super::node::Node;
use super::pod_program;
use crate::scratch::Scratch;

/// Kubelet waits ten seconds before it starts a container again.
const PATIENCE: Duration = Duration::from_secs(90);
/// So long is looked that nothing comes.
const WHILE: Duration = Duration::from_secs(5);
const CONTAINERS: [&str; 3] = ["main", "side", "proxy"];

/// Where pods come from, and with them what there is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A directory of manifests: static pods.
    Directory,
    /// An API server.
    Cluster,
}

impl Origin {
    pub(super) const ALL: [Self; 2] = [Self::Directory, Self::Cluster];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Cluster => "cluster",
        }
    }
}

/// Whether all holds of pods of `origins`, with cgroups by `driver`. Runs inside.
///
/// # Errors
/// Something does not start.
pub(super) async fn run(driver: Driver, origins: &[Origin]) -> Result<bool> {
    let scratch = Scratch::new()?;
    let mut node = Node::start(&scratch, &pod_program()?, driver).await?;
    println!("containerd: {}", node.ctr(&["version"])?.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut held = true;
    for origin in origins {
        let checked = match origin {
            Origin::Directory => directory::check(&mut node, &scratch).await,
            Origin::Cluster => cluster::check(&mut node, &scratch).await,
        };
        held &= checked.with_context(|| node.kubelet_says())?;
    }
    println!("{}", if held { "all of it holds" } else { "NOT all of it holds" });
    Ok(held)
}

fn id(app: &str, container: &str) -> String {
    format!("spiffe://example.org/{app}/{container}")
}

fn has(app: &str, container: &str) -> String {
    format!("has {}", id(app, container))
}
