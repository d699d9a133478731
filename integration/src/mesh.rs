//! Two services, `web` and `api`, each with its sidecar: `web` calls `api` through both.
//!
//! ```text
//! caller ─plain─► web's Envoy ══ mutual TLS ══► api's Envoy ─plain─► application
//! ```

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use envoy_configs::{
    Admin, Api, Callee, Callers, Host, Identity, KeyKind, Kind, Receipts, Remote, Settings, render,
    render_clusters,
};

use crate::app::Seen;
use crate::ca;
use crate::envoy::Envoy;
use crate::remote::{self, Door};
use crate::scratch::Scratch;
use crate::seats::{Seat, Seats};
use crate::server::{Options, Server};
use crate::tools::Release;
use crate::{http, ports};

/// How `web`'s sidecar uses its connections to `api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Kept, as the bootstrap has it.
    Kept,
    /// A handshake for each request, so that each request meets the newest certificates.
    HandshakeEach,
}

/// Where it is said that `web` may call `api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// In the bootstraps.
    InBootstraps,
    /// In the entry of `api`, the file `api.yaml`; the bootstraps know no SPIFFE ID.
    InEntries,
}

/// How the Envoys come to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over its socket, as processes of this node.
    Socket,
    /// Over its door to the network, with certificates of an operator's CA.
    Network,
}

/// What a test or the demo chooses of a mesh.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Changes the bootstrap of `api`, for what no setting is there for.
    pub change: fn(String) -> String,
    /// What the sidecar of `api` is.
    pub api_kind: Kind,
    pub said: Said,
    pub way: Way,
    /// The kinds of keys that both Envoys speak; none for what they speak by themselves.
    pub keys: Vec<KeyKind>,
    /// The type of key of the default profile, if there is a document of it: the file `profiles.yaml`.
    pub key_type: Option<&'static str>,
    pub server: Options,
    pub api: Api,
    pub pool: Pool,
    pub release: Release,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            change: |text| text,
            api_kind: Kind::Sidecar,
            said: Said::InBootstraps,
            way: Way::Socket,
            keys: Vec::new(),
            key_type: None,
            server: Options::default(),
            api: Api::Delta,
            pool: Pool::Kept,
            release: Release::default(),
        }
    }
}

/// Everything at work. Its parts end in the order of the fields, the directory last.
#[derive(Debug)]
pub struct Mesh {
    pub web: Envoy,
    pub api: Envoy,
    pub server: Server,
    pub seats: Seats,
    pub web_id: String,
    pub api_id: String,
    /// Where `web`'s program calls out, in clear.
    pub calls: SocketAddr,
    /// Where `api`'s sidecar takes mesh callers, over mutual TLS.
    pub inbound: SocketAddr,
    /// Where `api`'s program must listen.
    pub app: SocketAddr,
    pub web_seat: Seat,
    pub api_seat: Seat,
    /// With [`Way::Network`].
    pub door: Option<Door>,
    pub scratch: Scratch,
}

impl Mesh {
    /// Starts the server with its two entries, then both Envoys; the programs are the caller's.
    ///
    /// # Errors
    /// Something does not start; the error has the end of its log.
    pub async fn start(plan: &Plan) -> Result<Self> {
        let scratch = Scratch::new()?;
        let seats = Seats::here();
        let (web_seat, api_seat) =
            (seats.take_for(plan.release, &scratch, 0)?, seats.take_for(plan.release, &scratch, 1)?);
        let door = (plan.way == Way::Network).then(|| Door::new(&scratch)).transpose()?;
        let mut options = plan.server.clone();
        options.more += &door.as_ref().map(|door| door.config("")).unwrap_or_default();
        let server = Server::start(&scratch, "server", &options).await?;
        let domain = &plan.server.trust_domain;
        let (web_id, api_id) = (format!("spiffe://{domain}/web"), format!("spiffe://{domain}/api"));
        if let Some(key_type) = plan.key_type {
            server.write_documents("profiles", &default_profile(key_type))?;
        }
        match &door {
            None => {
                server.add_entry(&web_id, &[&web_seat.selector])?;
                server.write_documents("api", &api_entry(&api_id, &api_seat, &[&web_id]))?;
            }
            Some(_) => {
                server.write_documents("web", &remote_entry(&web_id, "web"))?;
                server.write_documents("api", &remote_entry(&api_id, "api"))?;
            }
        }

        let (calls, inbound, app) = (ports::free()?, ports::free()?, ports::free()?);
        let mut web_settings = settings(&scratch, "web", &server, plan)?;
        web_settings.outbound = calls;
        web_settings.upstreams = vec![Host { host: inbound.ip().to_string(), port: inbound.port() }];
        let mut api_settings = settings(&scratch, "api", &server, plan)?;
        api_settings.inbound = inbound;
        api_settings.app = app;
        match plan.said {
            Said::InBootstraps => api_settings.callers = Callers::Listed(vec![web_id.parse()?]),
            Said::InEntries => {
                api_settings.callers = Callers::Entries;
                web_settings.callee = Callee::Named(API_NAME.to_owned());
            }
        }
        if let Some(door) = &door {
            let dir = scratch.dir("proxies", None)?;
            for (name, settings) in [("web", &mut web_settings), ("api", &mut api_settings)] {
                settings.remote = Some(comes_to(door, &server, &dir, name)?);
            }
        }
        // A name instead of `default` on one side, so that both are in use.
        api_settings.identity = Identity::Named(api_id.parse()?);

        let web_files = files(Kind::Sidecar, &web_settings, plan.pool)?;
        let mut web = start(&scratch, "web", &web_seat, &web_settings, web_files)?;
        let (text, clusters) = files(plan.api_kind, &api_settings, plan.pool)?;
        let api_files = ((plan.change)(text), clusters);
        let mut api = start(&scratch, "api", &api_seat, &api_settings, api_files)?;
        tokio::try_join!(web.live(), api.live())?;
        Ok(Self {
            web,
            api,
            server,
            seats,
            web_id,
            api_id,
            calls,
            inbound,
            app,
            web_seat,
            api_seat,
            door,
            scratch,
        })
    }

    /// One call as `web`'s program makes it, and what `api`'s program saw of it.
    ///
    /// # Errors
    /// It was not answered with 200 by the program.
    pub async fn call(&self, headers: &[(&str, &str)]) -> Result<Seen> {
        let answer = self.raw_call(headers).await?;
        ensure!(answer.status().is_success(), "{} {:?}", answer.status(), answer.body());
        Seen::parse(answer.body()).context("the answer is not the program's")
    }

    /// The same with whatever answer comes.
    ///
    /// # Errors
    /// No answer came.
    pub async fn raw_call(&self, headers: &[(&str, &str)]) -> Result<::http::Response<Bytes>> {
        http::get_tcp(self.calls, "/", headers).await
    }
}

/// `api`'s DNS name in its entry.
pub const API_NAME: &str = "api.mesh.test";

/// The document that makes all keys of entries without a profile of this type.
#[must_use]
pub fn default_profile(key_type: &str) -> String {
    format!("kind: Profile\nname: default\nkey_type: {key_type}\n")
}

/// The entry that gives `id` to `seat` and lets `peers` call it.
#[must_use]
pub fn api_entry(id: &str, seat: &Seat, peers: &[&str]) -> String {
    let peers = peers.join(", ");
    let selector = &seat.selector;
    format!(
        "kind: Workload\nspiffe_id: {id}\nselectors: [{selector}]\ndns_names: [{API_NAME}]\npeers: [{peers}]\n"
    )
}

/// The URI of the operator's certificate for the proxy called `name`.
#[must_use]
pub fn proxy(name: &str) -> String {
    format!("spiffe://ops.test/proxy/{name}")
}

/// The entry that gives `id` to the proxy called `name`, from wherever it comes.
#[must_use]
pub fn remote_entry(id: &str, name: &str) -> String {
    format!("kind: Workload\nspiffe_id: {id}\nremote: true\nselectors: ['x509:uri:{}']\n", proxy(name))
}

/// What the proxy called `name` needs to come to `door`, with its files in `dir`.
///
/// # Errors
/// The files cannot be written, or the server does not tell its roots.
pub fn comes_to(door: &Door, server: &Server, dir: &Path, name: &str) -> Result<Remote> {
    let credential = door.operator.issue(&proxy(name), Duration::from_secs(3600))?;
    let [certificate_chain, private_key] = ca::write(&credential, dir, name)?;
    let host = Host { host: door.address.ip().to_string(), port: door.address.port() };
    Ok(Remote { host, certificate_chain, private_key, roots: remote::roots(server, dir)? })
}

/// A sidecar of its own ports and admin socket, served by `server`.
///
/// # Errors
/// No port is free.
pub fn settings(scratch: &Scratch, name: &str, server: &Server, plan: &Plan) -> Result<Settings> {
    let domain = &plan.server.trust_domain;
    let upstream = Callee::Workload(format!("spiffe://{domain}/api").parse()?);
    let mut settings = Settings::new(Kind::Sidecar, domain.as_str().try_into()?, upstream);
    name.clone_into(&mut settings.node_id);
    name.clone_into(&mut settings.service);
    settings.socket = server.socket();
    settings.api = plan.api;
    settings.keys.clone_from(&plan.keys);
    settings.inbound = ports::free()?;
    settings.outbound = ports::free()?;
    settings.app = ports::free()?;
    settings.admin = Admin::Unix(Envoy::admin_socket(scratch, name));
    settings.clusters = scratch.path().join(format!("{name}-clusters.yaml"));
    if plan.release == Release::V1_36 {
        settings.receipts = Receipts::Never;
    }
    Ok(settings)
}

/// The bootstrap of a sidecar.
///
/// # Errors
/// The settings cannot be used.
pub fn bootstrap(settings: &Settings, pool: Pool) -> Result<String> {
    Ok(files(Kind::Sidecar, settings, pool)?.0)
}

/// A bootstrap and, if it reads its clusters from elsewhere, those.
fn files(kind: Kind, settings: &Settings, pool: Pool) -> Result<(String, Option<String>)> {
    let (text, clusters) = match settings.api {
        Api::Ads => (render(kind, settings)?, Some(render_clusters(kind, settings)?)),
        Api::Delta | Api::Sotw => (render(kind, settings)?, None),
    };
    if pool == Pool::Kept {
        return Ok((text, clusters));
    }
    // A test's need, no operator's: not a setting.
    let each =
        |text: &str| text.replace("idle_timeout: 60s", "idle_timeout: 60s, max_requests_per_connection: 1");
    let changed = (each(&text), clusters.as_deref().map(each));
    ensure!(changed != (text, clusters), "the template no longer has the line that this changes");
    Ok(changed)
}

/// Another Envoy of whatever `kind`, started as it stands.
///
/// # Errors
/// The settings cannot be used, or it does not become live.
pub async fn another(
    scratch: &Scratch,
    name: &str,
    seat: &Seat,
    (kind, settings): (Kind, &Settings),
) -> Result<Envoy> {
    let mut envoy = start(scratch, name, seat, settings, files(kind, settings, Pool::Kept)?)?;
    envoy.live().await?;
    Ok(envoy)
}

fn start(
    scratch: &Scratch,
    name: &str,
    seat: &Seat,
    settings: &Settings,
    (text, clusters): (String, Option<String>),
) -> Result<Envoy> {
    if let Some(clusters) = clusters {
        fs::write(&settings.clusters, clusters)?;
    }
    Envoy::start(scratch, name, seat, &text)
}
