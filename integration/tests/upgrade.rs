//! A server is upgraded in place: its sockets change hands, and neither Envoys nor their callers notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::Duration;

use integration::app::App;
use integration::envoy::Envoy;
use integration::load::{Load, Mode};
use integration::mesh::{Mesh, Plan, Pool, Way};
use integration::remote::{Door, connect};
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::{poll, ports, sds};

const SOON: Duration = Duration::from_secs(20);
const ID: &str = "spiffe://example.org/me";

/// Open SDS streams of this Envoy.
async fn connected(envoy: &Envoy) -> u64 {
    envoy.stats().await.unwrap().sum("sds.", ".control_plane.connected_state")
}

async fn attempts(envoy: &Envoy) -> u64 {
    envoy.stats().await.unwrap().sum("sds.", ".update_attempt")
}

async fn connections(envoy: &Envoy) -> u64 {
    envoy.stats().await.unwrap().get("cluster.sds.upstream_cx_total")
}

/// Open streams, as the server has them.
fn served(server: &Server) -> u64 {
    let streams = server.cli(&["streams", "-o", "json"]).unwrap().stdout;
    serde_json::from_slice::<Vec<serde_json::Value>>(&streams).map_or(0, |streams| streams.len() as u64)
}

/// Who sees to it that one server follows another.
enum By {
    /// The old server.
    Itself,
    /// These sockets' owner, who stands for systemd.
    Systemd(Vec<OwnedFd>),
}

impl By {
    /// Makes the sockets of the mesh's server in its stead, and has it serve them.
    async fn systemd(mesh: &mut Mesh) -> Self {
        mesh.server.stop().await.unwrap();
        let sockets = listening(&mesh.server.socket(), mesh.door.as_ref());
        mesh.server.reactivate(&sockets).await.unwrap();
        Self::Systemd(sockets)
    }

    async fn replace(&self, mesh: &mut Mesh) {
        match self {
            Self::Itself => mesh.server.hand_over().await.unwrap(),
            Self::Systemd(sockets) => {
                let before = (connections(&mesh.web).await, connections(&mesh.api).await);
                mesh.server.stop().await.unwrap();
                poll::holds("both connect, and wait in the backlog", SOON, async || {
                    connections(&mesh.web).await > before.0 && connections(&mesh.api).await > before.1
                })
                .await
                .unwrap();
                mesh.server.reactivate(sockets).await.unwrap();
            }
        }
    }
}

/// The sockets of a unit like docs/countersign.socket.
fn listening(path: &Path, door: Option<&Door>) -> Vec<OwnedFd> {
    let unix = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let tcp = door.map(|door| std::net::TcpListener::bind(door.address).unwrap().into());
    std::iter::once(unix.into()).chain(tcp).collect()
}

/// Two sidecars under load, whose server is replaced twice.
async fn check(way: Way, by: impl AsyncFnOnce(&mut Mesh) -> By) {
    let plan = Plan { way, pool: Pool::HandshakeEach, ..Plan::default() };
    let mut mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    mesh.call(&[]).await.unwrap();
    let streams = (connected(&mesh.web).await, connected(&mesh.api).await);
    let by = by(&mut mesh).await;
    let back = async |mesh: &Mesh| {
        poll::holds("all streams are back", SOON, async || {
            (connected(&mesh.web).await, connected(&mesh.api).await) == streams
                && served(&mesh.server) == streams.0 + streams.1
        })
        .await
        .unwrap();
    };
    back(&mesh).await;
    let socket = std::fs::metadata(mesh.server.socket()).unwrap().ino();
    let before = (mesh.web.stats().await.unwrap(), mesh.api.stats().await.unwrap());
    let load = Load::start(mesh.calls, &[Mode::Kept, Mode::Fresh], Duration::from_millis(10));
    for _ in 0..2 {
        let asked = (attempts(&mesh.web).await, attempts(&mesh.api).await);
        by.replace(&mut mesh).await;
        poll::holds("both have asked anew", SOON, async || {
            attempts(&mesh.web).await > asked.0 && attempts(&mesh.api).await > asked.1
        })
        .await
        .unwrap();
        back(&mesh).await;
    }
    let answered = load.so_far().answered;
    poll::holds("calls go on", SOON, async || load.so_far().answered > answered + 50).await.unwrap();
    let tally = load.stop().await;
    assert_eq!(tally.failed, 0, "{:?}", tally.first_failure);
    let after = (mesh.web.stats().await.unwrap(), mesh.api.stats().await.unwrap());
    assert_eq!(after.0.applied(), before.0.applied(), "web: no context was built anew");
    assert_eq!(after.1.applied(), before.1.applied(), "api: no context was built anew");
    for (after, before) in [(&after.0, &before.0), (&after.1, &before.1)] {
        let more = |name: &str| after.get(name) - before.get(name);
        // In the backlog the door's handshake waits too, and an Envoy tries anew after a second.
        let waited = more("cluster.sds.upstream_cx_connect_timeout");
        println!("{} connections, {waited} waited long", more("cluster.sds.upstream_cx_total"));
        assert_eq!(more("cluster.sds.upstream_cx_connect_fail"), waited, "no connection was refused");
        assert_eq!(after.sum("sds.", ".update_rejected"), 0);
    }
    assert_eq!(
        std::fs::metadata(mesh.server.socket()).unwrap().ino(),
        socket,
        "the same socket all the while"
    );
    mesh.server.stop().await.unwrap();
    assert_eq!(mesh.server.socket().exists(), matches!(by, By::Systemd(_)), "who made it removes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_the_socket_over_and_nobody_notices() {
    check(Way::Socket, async |_: &mut Mesh| By::Itself).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_the_door_to_the_network_over_and_nobody_notices() {
    check(Way::Network, async |_: &mut Mesh| By::Itself).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_restarted_on_systemds_socket_is_back_and_nobody_notices() {
    check(Way::Socket, By::systemd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_restarted_on_systemds_door_to_the_network_is_back_and_nobody_notices() {
    check(Way::Network, By::systemd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_fails_leaves_the_server_serving() {
    let scratch = Scratch::new().unwrap();
    let server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
    server.add_entry(ID, &[&Seats::here().own_selector().unwrap()]).unwrap();
    let socket = server.socket();
    let served = async || sds::svid(&socket, ID).await.ok();
    let first = poll::until("served", SOON, served).await.unwrap();

    // One that cannot use the sockets gives up before anything was given up for it.
    let other = scratch.path().join("other.sock").display().to_string();
    let mut wrong = server.successor("wrong.log", &["--socket", &other]).unwrap();
    assert_eq!(wrong.ended(SOON).await.unwrap().code(), Some(2), "the flag is given twice");
    let config = scratch.path().join("elsewhere.yaml");
    std::fs::write(&config, format!("socket: {other}\n")).unwrap();
    let data = server.data().display().to_string();
    let mut elsewhere = server
        .bare(
            &[
                "serve",
                "--takeover",
                "--trust-domain",
                "example.org",
                "--data",
                &data,
                "--config",
                config.to_str().unwrap(),
            ],
            "elsewhere.log",
        )
        .unwrap();
    assert_eq!(elsewhere.ended(SOON).await.unwrap().code(), Some(1));
    assert!(elsewhere.output().contains("the running server goes on"), "{}", elsewhere.output());
    assert!(served().await.is_some() && !server.log().contains("takes the place"), "{}", server.log());

    // One that fails after it has the place: the metrics port is taken. The server serves again.
    let taken = std::net::TcpListener::bind(ports::free().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    std::fs::write(&config, format!("metrics: {{listen: '{address}'}}\n")).unwrap();
    let mut fails = server.successor("fails.log", &["--config", config.to_str().unwrap()]).unwrap();
    assert_eq!(fails.ended(SOON).await.unwrap().code(), Some(1));
    assert!(fails.output().contains("metrics.listen"), "{}", fails.output());
    poll::holds("the server says so", SOON, async || server.log().contains("this one serves on"))
        .await
        .unwrap();
    let again = poll::until("served again", SOON, served).await.unwrap();
    assert_eq!(again.chain, first.chain, "with what it had");
    assert!(server.cli(&["status"]).unwrap().status.success());

    // And it can still be replaced, and ended.
    let mut server = server;
    server.hand_over().await.unwrap();
    assert_eq!(poll::until("served", SOON, served).await.unwrap().chain, first.chain);
    server.stop().await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_systemd_are_served_and_left() {
    let scratch = Scratch::new().unwrap();
    let door = Door::new(&scratch).unwrap();
    let options = Options { more: door.config(""), ..Options::default() };
    let dir = scratch.dir("server", None).unwrap();
    let path = dir.join("api.sock");
    let sockets = listening(&path, Some(&door));

    let mut server = Server::activated(&scratch, "server", &options, &sockets).await.unwrap();
    server.add_entry(ID, &[&Seats::here().own_selector().unwrap()]).unwrap();
    let remote = "kind: Workload\nspiffe_id: spiffe://example.org/edge\nremote: true\nselectors: ['x509:uri:urn:edge']\n";
    server.write_documents("edge", remote).unwrap();
    let first = poll::until("served", SOON, async || sds::svid(&path, ID).await.ok()).await.unwrap();
    server.stop().await.unwrap();
    assert!(path.exists(), "systemd's file is left");

    // Who connects while nobody serves waits in the backlog, at both doors.
    let waits = tokio::spawn({
        let path = path.clone();
        async move { sds::svid(&path, ID).await }
    });
    let edge = door.operator.issue("urn:edge", Duration::from_secs(3600)).unwrap();
    let from_afar = tokio::spawn(async move {
        let channel = connect(door.address, &edge).await?;
        sds::svid_over(channel, "spiffe://example.org/edge").await
    });
    server.reactivate(&sockets).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap().chain, first.chain);
    from_afar.await.unwrap().unwrap();
    server.stop().await.unwrap();

    // What is no listening socket of ours is not believed.
    let refused = async |socket: OwnedFd, says: &str| {
        let dir = scratch.dir("wrong", None).unwrap();
        let _ = std::fs::remove_file(dir.join("countersign.log"));
        let started = Server::activated(&scratch, "wrong", &Options::default(), &[socket]).await;
        let error = format!("{:#}", started.unwrap_err());
        assert!(error.contains(says), "{error}");
    };
    refused(
        UnixDatagram::bind(scratch.path().join("datagram.sock")).unwrap().into(),
        "no listening stream socket",
    )
    .await;
    refused(std::fs::File::open("/dev/null").unwrap().into(), "no listening stream socket").await;
    refused(
        UnixListener::bind(scratch.path().join("other.sock")).unwrap().into(),
        "other.sock, where the configuration has none",
    )
    .await;
}
