//! One real Envoy that a puppet serves, and what the roster knows of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use envoy_configs::{Admin, Api, Callee, Callers, Kind, Receipts, Settings, render, render_clusters};
use spiffe_bridge::identity::WorkloadUpdate;
use spiffe_bridge::roster::{NameRow, Standing};

use super::Puppet;
use crate::envoy::Envoy;
use crate::scratch::Scratch;
use crate::seats::Seats;
use crate::{poll, ports};

const SOON: Duration = Duration::from_secs(30);

/// The trust domain of both.
pub const DOMAIN: &str = "lab.test";

/// Its parts end in the order of the fields, the directory last.
pub struct Stand {
    pub envoy: Envoy,
    pub puppet: Puppet,
    _scratch: Scratch,
}

impl Stand {
    /// A sidecar that asks by `api` and is served `first`, live. Its bootstrap is changed by `change`.
    ///
    /// # Errors
    /// One of them does not start; the error has the end of Envoy's log.
    pub async fn start(
        first: WorkloadUpdate,
        api: Api,
        change: impl FnOnce(String) -> String,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let puppet = Puppet::start(&scratch, first).await?;
        let callee = Callee::Workload(format!("spiffe://{DOMAIN}/api").parse()?);
        let mut settings = Settings::new(Kind::Sidecar, DOMAIN.parse()?, callee);
        settings.socket = puppet.socket().to_path_buf();
        settings.api = api;
        settings.clusters = scratch.path().join("clusters.yaml");
        settings.inbound = ports::free()?;
        settings.outbound = ports::free()?;
        settings.app = ports::free()?;
        settings.callers = Callers::Domain;
        settings.receipts = Receipts::Every(Duration::from_millis(200));
        settings.admin = Admin::Unix(Envoy::admin_socket(&scratch, "envoy"));
        if api == Api::Ads {
            fs::write(&settings.clusters, render_clusters(Kind::Sidecar, &settings)?)?;
        }
        let bootstrap = change(render(Kind::Sidecar, &settings)?);
        let seat = Seats::here().take(&scratch, 0)?;
        let mut envoy = Envoy::start(&scratch, "envoy", &seat, &bootstrap)?;
        envoy.live().await?;
        Ok(Self { envoy, puppet, _scratch: scratch })
    }

    /// What the roster has of `name`, of the one member that there is.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<NameRow> {
        let members = self.puppet.streams().snapshot();
        let holder = members.first()?.holder.as_ref()?.parse().ok()?;
        let names = self.puppet.roster().names_of(&holder);
        names.into_iter().find(|(of, _)| &**of == name).map(|(_, row)| row)
    }

    /// Waits until `name` is as `fits` says.
    ///
    /// # Errors
    /// It is not within half a minute; the error says how all stands.
    pub async fn until(&self, what: &str, name: &str, fits: impl Fn(&NameRow) -> bool) -> Result<NameRow> {
        let found = poll::until(what, SOON, async || self.row(name).filter(|row| fits(row)));
        found.await.with_context(|| format!("{:?}\n{}", self.row(name), self.envoy.tail()))
    }

    /// Waits until `name` is at `revision` and stands so.
    ///
    /// # Errors
    /// As [`Stand::until`].
    pub async fn stands(&self, name: &str, revision: u64, standing: Standing) -> Result<NameRow> {
        let what = format!("{name} at {revision} is {standing:?}");
        let fits = |row: &NameRow| (row.version.revision.0, row.standing) == (revision, standing);
        self.until(&what, name, fits).await
    }
}
