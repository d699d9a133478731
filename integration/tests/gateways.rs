//! Ways into and out of the mesh: a gateway that ends TLS, one that passes it on, and the way to a server outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_configs::{Callee, Callers, Host, Kind, Route, Server, Settings, Shown};
use integration::app::{App, Seen};
use integration::envoy::Envoy;
use integration::mesh::{API_NAME, Mesh, Plan, Said, another, api_entry, settings};
use integration::outside::{Outside, PublicCa};
use integration::stranger::{Attempt, call, call_in_clear};
use integration::{http, poll, ports, sds};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);
const GATE: &str = "spiffe://example.org/gate";

async fn mesh() -> Mesh {
    Mesh::start(&Plan { said: Said::InEntries, ..Plan::default() }).await.unwrap()
}

fn at(to: SocketAddr) -> Vec<Host> {
    vec![Host { host: to.ip().to_string(), port: to.port() }]
}

/// An Envoy of another kind in a seat of its own, whose entry says `GATE`.
async fn gate(mesh: &Mesh, kind: Kind, change: impl FnOnce(&mut Settings)) -> Envoy {
    let seat = mesh.seats.take(&mesh.scratch, 2).unwrap();
    mesh.server.add_entry(GATE, &[&seat.selector]).unwrap();
    let mut chosen = settings(&mesh.scratch, "gate", &mesh.server, &Plan::default()).unwrap();
    change(&mut chosen);
    another(&mesh.scratch, "gate", &seat, (kind, &chosen)).await.unwrap()
}

fn allow(mesh: &Mesh, peers: &[&str]) {
    mesh.server.write_documents("api", &api_entry(&mesh.api_id, &mesh.api_seat, peers)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_gateway_calls_under_its_own_identity() {
    let mesh = mesh().await;
    let _app = App::start("api", mesh.app).await.unwrap();
    allow(&mesh, &[&mesh.web_id, GATE]);
    let (edge, inbound) = (ports::free().unwrap(), ports::free().unwrap());
    let _gate = gate(&mesh, Kind::Gateway, |chosen| {
        (chosen.edge, chosen.inbound) = (edge, inbound);
        chosen.upstreams = at(mesh.inbound);
        chosen.callee = Callee::Named(API_NAME.into());
        chosen.callers = Callers::Listed(vec![mesh.web_id.parse().unwrap()]);
    })
    .await;

    let forged = [("x-peer-spiffe-id", "spiffe://example.org/admin")];
    let from_outside = async || {
        let answer = http::get_tcp(edge, "/", &forged).await.unwrap();
        Seen::parse(answer.body()).ok()
    };
    let seen = poll::until("api has heard that it may come", SOON, from_outside).await.unwrap();
    assert_eq!(seen.peer, [GATE]);

    // A member of the mesh may come in too, if the gateway allows it; api sees the gateway.
    mesh.server.add_entry(&mesh.web_id, &[&mesh.seats.own_selector().unwrap()]).unwrap();
    let web = sds::svid(&mesh.server.socket(), &mesh.web_id).await.unwrap();
    let Attempt::Answered(body) = call(inbound, Some(&web)).await.unwrap() else { panic!("refused") };
    assert_eq!(Seen::parse(body.as_bytes()).unwrap().peer, [GATE]);
    assert!(call(inbound, None).await.unwrap().is_refused());
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_passthrough_gateway_both_ends_still_see_each_other() {
    let mesh = mesh().await;
    let _app = App::start("api", mesh.app).await.unwrap();
    let way = ports::free().unwrap();
    let passthrough = gate(&mesh, Kind::Passthrough, |chosen| {
        chosen.inbound = way;
        let route = Route { name: API_NAME.into(), hosts: at(mesh.inbound) };
        chosen.callee = Callee::ByServerName(vec![route]);
    })
    .await;
    // Another sidecar of `web`, whose way to `api` leads through the gateway.
    let caller = |server_name: Option<&str>| {
        let mut chosen = settings(&mesh.scratch, "far", &mesh.server, &Plan::default()).unwrap();
        chosen.upstreams = at(way);
        chosen.callee = Callee::Named(API_NAME.into());
        chosen.server_name = server_name.map(str::to_owned);
        chosen
    };
    let chosen = caller(Some(API_NAME));
    let far = another(&mesh.scratch, "far", &mesh.web_seat, (Kind::Sidecar, &chosen)).await.unwrap();
    let answer = http::get_tcp(chosen.outbound, "/", &[]).await.unwrap();
    let seen = Seen::parse(answer.body()).unwrap();
    assert_eq!(seen.peer, std::slice::from_ref(&mesh.web_id), "not the gateway");
    drop(far);

    let stats = passthrough.stats().await.unwrap();
    assert_eq!(stats.get("tcp.passthrough.downstream_cx_total"), 1);
    assert_eq!(stats.sum("", "ssl.handshake"), 0, "it opens nothing");
    assert_eq!(stats.sum("sds.", ".update_attempt"), 0, "it needs no secret");

    // What names nobody that is listed, or speaks no TLS, goes nowhere.
    let nameless = caller(None);
    let _far = another(&mesh.scratch, "far", &mesh.web_seat, (Kind::Sidecar, &nameless)).await.unwrap();
    assert_eq!(http::get_tcp(nameless.outbound, "/", &[]).await.unwrap().status(), 503);
    assert!(call(way, None).await.unwrap().is_refused(), "another server name");
    assert!(call_in_clear(way).await.unwrap().is_refused());
    let stats = passthrough.stats().await.unwrap();
    assert_eq!(stats.get("tcp.passthrough.downstream_cx_total"), 1);
}

/// What the server outside said, or the status of a failure.
async fn outside(from: SocketAddr) -> Result<Value, u16> {
    let forged = [("x-peer-spiffe-id", "spiffe://example.org/a"), ("x-forwarded-client-cert", "URI=a")];
    let answer = http::get_tcp(from, "/", &forged).await.unwrap();
    if answer.status() != 200 {
        return Err(answer.status().as_u16());
    }
    Ok(serde_json::from_slice(answer.body()).unwrap())
}

async fn egress(mesh: &Mesh, ca: &PublicCa, to: SocketAddr, shown: Shown) -> (Envoy, SocketAddr, SocketAddr) {
    let roots = mesh.scratch.path().join("roots.pem");
    fs::write(&roots, ca.pem()).unwrap();
    let (outbound, inbound) = (ports::free().unwrap(), ports::free().unwrap());
    let name = "api.example.com".to_owned();
    let envoy = gate(mesh, Kind::Egress, |chosen| {
        (chosen.outbound, chosen.inbound) = (outbound, inbound);
        chosen.upstreams = at(to);
        chosen.callee = Callee::Server(Server { name, roots, shown });
        chosen.callers = Callers::Listed(vec![mesh.web_id.parse().unwrap()]);
    })
    .await;
    (envoy, outbound, inbound)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_program_reaches_a_server_outside_whose_name_is_checked() {
    let mesh = mesh().await;
    let (ca, other_ca) = (PublicCa::new().unwrap(), PublicCa::new().unwrap());
    let to = ports::free().unwrap();
    let (envoy, outbound, inbound) = egress(&mesh, &ca, to, Shown::Nothing).await;
    // A certificate for all of example.com is one for it, and a browser would take it too.
    for name in ["api.example.com", "*.example.com"] {
        let server = Outside::start(&ca, name, to, None).await.unwrap();
        let said = outside(outbound).await.unwrap();
        assert_eq!(said["met"]["server_name"], "api.example.com");
        assert_eq!(said["met"]["shown"], serde_json::json!([]), "no certificate of ours");
        assert_eq!(said["host"], "api.example.com");
        let headers = said["headers"].to_string();
        assert!(!headers.contains("x-peer-spiffe-id") && !headers.contains("client-cert"), "{headers}");
        server.stop().await;
    }
    for (ca, name) in [(&ca, "www.example.com"), (&ca, "*.api.example.com"), (&other_ca, "api.example.com")] {
        let server = Outside::start(ca, name, to, None).await.unwrap();
        assert_eq!(outside(outbound).await.unwrap_err(), 503, "{name}\n{}", envoy.log());
        server.stop().await;
    }

    // The same way for members of the mesh, and the server outside learns nothing of them.
    mesh.server.add_entry(&mesh.web_id, &[&mesh.seats.own_selector().unwrap()]).unwrap();
    let web = sds::svid(&mesh.server.socket(), &mesh.web_id).await.unwrap();
    let _server = Outside::start(&ca, "api.example.com", to, None).await.unwrap();
    let Attempt::Answered(said) = call(inbound, Some(&web)).await.unwrap() else { panic!("refused") };
    assert!(
        said.contains("api.example.com") && !said.contains("x-peer") && !said.contains("client-cert"),
        "{said}"
    );
    assert!(call(inbound, None).await.unwrap().is_refused());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outside_that_knows_our_roots_is_shown_our_certificate() {
    let mesh = mesh().await;
    let ca = PublicCa::new().unwrap();
    let bundle = String::from_utf8(mesh.server.cli(&["bundle"]).unwrap().stdout).unwrap();
    let to = ports::free().unwrap();
    let _server = Outside::start(&ca, "api.example.com", to, Some(&bundle)).await.unwrap();
    let (envoy, outbound, _) = egress(&mesh, &ca, to, Shown::Svid).await;
    let said = outside(outbound).await.unwrap();
    assert_eq!(said["met"]["shown"], serde_json::json!([GATE]));
    let stats = envoy.stats().await.unwrap();
    assert!(stats.get("cluster.upstream.ssl.versions.TLSv1.3") > 0, "in 1.2 it would be read on the way");
}
