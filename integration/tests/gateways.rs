//! Ways into and out of the mesh: a gateway that ends TLS, one that passes it on, and the way to a server outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use envoy_configs::{Callee, Callers, EdgeTls, Host, Kind, Route, Server, Settings, Shown};
use integration::app::{App, Seen};
use integration::envoy::Envoy;
use integration::mesh::{API_NAME, Mesh, Plan, Said, another, api_entry, settings};
use integration::outside::{Outside, PublicCa};
use integration::seats::Seat;
use integration::server::Options;
use integration::stranger::{Attempt, call, call_in_clear};
use integration::tools::network::Tool;
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
    seated_gate(mesh, &mesh.seats.take(&mesh.scratch, 2).unwrap(), kind, change).await
}

async fn seated_gate(mesh: &Mesh, seat: &Seat, kind: Kind, change: impl FnOnce(&mut Settings)) -> Envoy {
    mesh.server.write_documents("gate", &entry(seat, "")).unwrap();
    let mut chosen = settings(&mesh.scratch, "gate", &mesh.server, &Plan::default()).unwrap();
    change(&mut chosen);
    another(&mesh.scratch, "gate", seat, (kind, &chosen)).await.unwrap()
}

fn entry(seat: &Seat, more: &str) -> String {
    format!("kind: Workload\nspiffe_id: {GATE}\nselectors: [{}]\n{more}", seat.selector)
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

const SHOP: &str = "shop.example.org";

/// What curl comes back with: its exit status, and what it printed.
fn curl(edge: SocketAddr, host: &str, arguments: &[&str]) -> (i32, String) {
    let port = edge.port();
    let ran = Tool::Curl
        .command()
        .unwrap()
        .args(["--silent", "--show-error", "--fail", "--max-time", "10", "--noproxy", "*", "--resolve"])
        .arg(format!("{host}:{port}:{}", edge.ip()))
        .args(arguments)
        .arg(format!("https://{host}:{port}/"))
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap() + &String::from_utf8_lossy(&ran.stderr);
    (ran.status.code().unwrap(), said)
}

/// curl cannot be made to believe the server.
const UNVERIFIED: i32 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn callers_from_outside_with_the_root_alone_are_served_through_renewals_of_the_edge() {
    // Renewed each two seconds or so.
    let server = Options { leaf_lifetime: Some("20s".into()), renew_at: Some(0.1), ..Options::default() };
    let mesh = Mesh::start(&Plan { said: Said::InEntries, server, ..Plan::default() }).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    allow(&mesh, &[&mesh.web_id, GATE]);
    let edge = ports::free().unwrap();
    let seat = mesh.seats.take(&mesh.scratch, 2).unwrap();
    let gate = seated_gate(&mesh, &seat, Kind::Gateway, |chosen| {
        (chosen.edge, chosen.inbound) = (edge, ports::free().unwrap());
        chosen.edge_tls = Some(EdgeTls::Named(SHOP.into()));
        chosen.upstreams = at(mesh.inbound);
        chosen.callee = Callee::Named(API_NAME.into());
    })
    .await;
    let bundle = mesh.scratch.path().join("outside.pem");
    fs::write(&bundle, mesh.server.cli(&["bundle"]).unwrap().stdout).unwrap();
    let trusting = ["--cacert", bundle.to_str().unwrap()];

    // Until its entry has the name there is no certificate, and nothing else is shown instead.
    assert_ne!(curl(edge, SHOP, &["--insecure"]).0, 0);
    mesh.server.write_documents("gate", &entry(&seat, &format!("dns_names: [{SHOP}]\n"))).unwrap();
    poll::holds("the edge is served", SOON, async || curl(edge, SHOP, &trusting).0 == 0)
        .await
        .unwrap_or_else(|error| panic!("{error} {:?}\n{}", curl(edge, SHOP, &trusting), gate.tail()));

    // What is at the edge must be proved too: the counters of two listeners and a cluster.
    poll::holds("all of it is proved in use", Duration::from_secs(30), async || proved(&mesh, SHOP))
        .await
        .unwrap();

    let failed = async || gate.stats().await.unwrap().sum("http.", ".downstream_rq_5xx");
    let before = failed().await;
    let (mut serials, mut asked) = (BTreeSet::new(), 0);
    let stop = Arc::new(AtomicBool::new(false));
    // One connection for all of these, which outlives the certificate that it began with.
    let keeps_on = {
        let (roots, stop) = (bundle.clone(), stop.clone());
        std::thread::spawn(move || {
            let many = format!("https://{SHOP}:{}/?n=[1-300]", edge.port());
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                let arguments = ["--cacert", roots.to_str().unwrap(), "--rate", "50/s", &many];
                let (status, said) = curl(edge, SHOP, &arguments);
                assert_eq!(status, 0, "{said}");
                answered += said.matches("\"peer\"").count();
            }
            answered
        })
    };
    let until = Instant::now() + Duration::from_secs(60);
    while serials.len() < 5 && Instant::now() < until {
        let arguments = [&trusting[..], &["--write-out", "\n%{certs}"]].concat();
        let (status, said) = curl(edge, SHOP, &arguments);
        assert_eq!(status, 0, "request {asked}: {said}\n{}", gate.tail());
        let (body, certificates) = said.split_once('\n').unwrap();
        let forged = ["--header", "x-peer-spiffe-id: spiffe://example.org/admin"];
        assert_eq!(Seen::parse(body.as_bytes()).unwrap().peer, [GATE], "{body}");
        let (status, said) = curl(edge, SHOP, &[&trusting[..], &forged].concat());
        assert_eq!((status, Seen::parse(said.as_bytes()).unwrap().peer), (0, vec![GATE.to_owned()]));
        let serial = certificates.lines().find_map(|line| line.strip_prefix("Serial Number:")).unwrap();
        serials.insert(serial.to_owned());
        asked += 2;
    }
    stop.store(true, Ordering::Relaxed);
    let kept = tokio::task::spawn_blocking(|| keeps_on.join().unwrap()).await.unwrap();
    assert!(serials.len() >= 5 && asked > 20 && kept > 200, "{serials:?} {asked} {kept}");
    let stats = gate.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
    assert_eq!(failed().await, before, "{}", gate.tail());

    // Its name is checked, and who issued it.
    let other = mesh.scratch.path().join("other.pem");
    fs::write(&other, PublicCa::new().unwrap().pem()).unwrap();
    assert_eq!(curl(edge, SHOP, &["--cacert", other.to_str().unwrap()]).0, UNVERIFIED);
    assert_eq!(curl(edge, SHOP, &[]).0, UNVERIFIED, "no public root knows us");
    assert_eq!(curl(edge, "www.example.org", &trusting).0, UNVERIFIED);
}

/// Whether the server knows of each name of the gateway that it is in use.
fn proved(mesh: &Mesh, name: &str) -> bool {
    let ran = mesh.server.cli(&["streams", "-o", "json"]).unwrap();
    let streams: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let of_gate = streams.iter().filter(|stream| stream["node"] == "gate");
    let names: Vec<&Value> = of_gate.flat_map(|stream| stream["names"].as_array().unwrap()).collect();
    names.iter().any(|of| of["name"] == name) && names.iter().all(|of| of["state"] == "proved_applied")
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
