//! Secrets on demand: one Envoy for many identities, each fetched when a caller asks for its name, and taken back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use envoy_configs::{Api, Callee, Callers, Host, Kind};
use integration::app::{App, Seen};
use integration::envoy::Envoy;
use integration::mesh::{API_NAME, Mesh, Plan, Said, another, api_entry, settings};
use integration::seats::Seat;
use integration::stranger::{Attempt, Credential, meet};
use integration::{poll, ports, sds};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

struct Gateway {
    mesh: Mesh,
    seat: Seat,
    envoy: Envoy,
    at: SocketAddr,
    caller: Credential,
    _app: App,
}

fn id(name: &str) -> String {
    format!("spiffe://example.org/front/{name}")
}

fn dns(name: &str) -> String {
    format!("{name}.mesh.test")
}

/// Gives the gateway the identity `name`, under its DNS name.
fn give(mesh: &Mesh, seat: &Seat, name: &str) {
    let (id, dns, selector) = (id(name), dns(name), &seat.selector);
    let text = format!("kind: Workload\nspiffe_id: {id}\nselectors: [{selector}]\ndns_names: [{dns}]\n");
    mesh.server.write_documents(name, &text).unwrap();
}

/// With the identities `a` and `b`, of which `a` is fetched at the start; `api` lets in `a`, `b` and `late`.
async fn gateway() -> Gateway {
    let mesh = Mesh::start(&Plan { said: Said::InEntries, ..Plan::default() }).await.unwrap();
    let app = App::start("api", mesh.app).await.unwrap();
    let peers = ["a", "b", "late"].map(id);
    let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
    mesh.server.write_documents("api", &api_entry(&mesh.api_id, &mesh.api_seat, &peers)).unwrap();
    let seat = mesh.seats.take(&mesh.scratch, 2).unwrap();
    ["a", "b"].iter().for_each(|name| give(&mesh, &seat, name));
    mesh.server.add_entry(&mesh.web_id, &[&mesh.seats.own_selector().unwrap()]).unwrap();

    let at = ports::free().unwrap();
    let mut chosen = settings(&mesh.scratch, "front", &mesh.server, &Plan::default()).unwrap();
    (chosen.inbound, chosen.api) = (at, Api::Ads);
    chosen.prefetch = vec![dns("a")];
    chosen.upstreams = vec![Host { host: mesh.inbound.ip().to_string(), port: mesh.inbound.port() }];
    chosen.callee = Callee::Named(API_NAME.into());
    chosen.callers = Callers::Listed(vec![mesh.web_id.parse().unwrap()]);
    let envoy = another(&mesh.scratch, "front", &seat, (Kind::OnDemand, &chosen)).await.unwrap();
    let caller = poll::until("this process has an SVID", SOON, async || {
        sds::svid(&mesh.server.socket(), &mesh.web_id).await.ok()
    });
    let caller = caller.await.unwrap();
    Gateway { mesh, seat, envoy, at, caller, _app: app }
}

impl Gateway {
    /// Whom a caller meets under that name, and as whom `api` was called for it; `None` if the handshake fails.
    async fn met(&self, server_name: &str) -> Option<(String, String)> {
        let (attempt, shown) = meet(self.at, server_name, Some(&self.caller)).await.unwrap();
        let Attempt::Answered(body) = attempt else { return None };
        let seen = Seen::parse(body.as_bytes()).ok()?;
        Some((shown.into_iter().next()?, seen.peer.into_iter().next()?))
    }

    async fn serves(&self, name: &str) {
        let both = Some((id(name), id(name)));
        let what = format!("{name} is served\n{}", self.envoy.tail());
        poll::holds(&what, SOON, async || self.met(&dns(name)).await == both).await.unwrap();
    }

    async fn refuses(&self, name: &str) {
        let what = format!("{name} is refused\n{}", self.envoy.tail());
        poll::holds(&what, SOON, async || self.met(&dns(name)).await.is_none()).await.unwrap();
    }

    /// The names on the gateway's stream.
    fn names(&self) -> Vec<String> {
        let streams = self.mesh.server.cli(&["streams", "-o", "json"]).unwrap();
        let streams: Value = serde_json::from_slice(&streams.stdout).unwrap();
        let names = |stream: &Value| stream["names"].as_array().cloned().unwrap_or_default();
        let all: Vec<Vec<Value>> = streams.as_array().unwrap().iter().map(names).collect();
        let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
        let of_gateway = |names: &&Vec<Value>| names.iter().any(|n| name(n) == dns("a"));
        all.iter().find(of_gateway).map(|names| names.iter().map(name).collect()).unwrap_or_default()
    }
}

/// Whether a server shows any certificate for `server_name`, which need not be a DNS name.
fn handshakes(to: SocketAddr, server_name: &str) -> bool {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &to.to_string(), "-servername", server_name]).stdin(Stdio::null());
    let said = String::from_utf8_lossy(&openssl.output().unwrap().stdout).into_owned();
    assert!(said.contains("CONNECTED"), "{said}");
    said.contains("BEGIN CERTIFICATE")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_name_has_its_own_identity_on_both_sides() {
    let gateway = gateway().await;
    let names = gateway.names();
    assert!(names.contains(&dns("a")) && !names.contains(&dns("b")), "fetched at the start: {names:?}");
    gateway.serves("a").await;
    gateway.serves("b").await;
    gateway.serves("a").await;
    assert!(handshakes(gateway.at, &dns("a")), "a handshake is seen where there is one");
    let stats = gateway.envoy.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_server_name_is_refused_leaves_nothing_and_may_come_to_exist() {
    let gateway = gateway().await;
    gateway.serves("a").await;
    for nth in 0..50 {
        assert_eq!(gateway.met(&format!("unknown-{nth}.mesh.test")).await, None);
    }
    // Another spelling would be another subscription for the same secret.
    for name in ["A.mesh.test", "default", "ROOTCA", "peers"] {
        assert_eq!(gateway.met(name).await, None, "{name}");
    }
    // What no honest client says: the names of secrets that are no certificates, or are asked for by others.
    for name in ["jwt:unknown.mesh.test", "spiffe://example.org/front/a", "upstream:unknown.mesh.test"] {
        assert!(!handshakes(gateway.at, name), "{name}");
    }
    assert_eq!(gateway.met(&dns("late")).await, None);
    let nothing_left = async || {
        let names = gateway.names();
        !names.is_empty() && !names.iter().any(|name| name.contains("unknown") || *name == dns("late"))
    };
    poll::holds("no subscription is left", SOON, nothing_left).await.unwrap();

    give(&gateway.mesh, &gateway.seat, "late");
    gateway.serves("late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_goes_takes_its_certificate_back_at_the_next_handshake() {
    let gateway = gateway().await;
    gateway.serves("b").await;
    gateway.mesh.server.remove_documents("b").unwrap();
    gateway.refuses("b").await;
    gateway.serves("a").await;
    give(&gateway.mesh, &gateway.seat, "b");
    gateway.serves("b").await;
}
