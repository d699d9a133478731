//! SDS over TCP with real Envoys: the mesh works as it does over the socket, and no caller gets what is not its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use envoy_configs::Api;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use integration::app::App;
use integration::mesh::{Mesh, Plan, Pool, Way, proxy, remote_entry};
use integration::remote::{Door, client, connect, shake};
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::{poll, sds};
use tokio_stream::StreamExt as _;

const SOON: Duration = Duration::from_secs(15);

/// Both sidecars come over the network; their secrets are renewed there, and calls go on.
async fn check(api: Api, protocol: &str) {
    let server = Options { leaf_lifetime: Some("8s".into()), ..Options::default() };
    let plan = Plan { way: Way::Network, server, api, pool: Pool::HandshakeEach, ..Plan::default() };
    let mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    let seen = mesh.call(&[]).await.unwrap();
    assert_eq!(seen.peer, std::slice::from_ref(&mesh.web_id));

    let first = mesh.api.serial(&mesh.api_id).await.unwrap();
    let renewed = async || mesh.api.serial(&mesh.api_id).await.unwrap() != first;
    poll::holds("renewed over the network", SOON, renewed).await.unwrap();
    mesh.call(&[]).await.unwrap();
    for stats in [mesh.web.stats().await.unwrap(), mesh.api.stats().await.unwrap()] {
        assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
        assert!(stats.get("cluster.sds.ssl.versions.TLSv1.3") > 0);
        assert_eq!(
            stats.get("cluster.sds.ssl.curves.X25519MLKEM768"),
            stats.get("cluster.sds.ssl.handshake")
        );
        assert_eq!(stats.get("cluster.sds.ssl.session_reused"), 0);
    }

    let streams = mesh.server.cli(&["streams", "-o", "json"]).unwrap();
    let streams: serde_json::Value = serde_json::from_slice(&streams.stdout).unwrap();
    let streams = streams.as_array().unwrap();
    assert!(!streams.is_empty());
    for stream in streams {
        let certificate = stream["certificate"].as_str().unwrap();
        assert!([proxy("web"), proxy("api")].iter().any(|name| name == certificate), "{stream}");
        assert!(stream["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{stream}");
        assert!(stream.get("pid").is_none() && stream["protocol"] == protocol, "{stream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_the_world_serves_a_mesh_over_the_network() {
    check(Api::Sotw, "sotw").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_serves_a_mesh_over_the_network() {
    check(Api::Delta, "delta").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ads_serves_a_mesh_over_the_network() {
    check(Api::Ads, "delta").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_caller_that_went_counts_until_an_operator_lets_it_go() {
    let scratch = Scratch::new().unwrap();
    let door = Door::new(&scratch).unwrap();
    let options = Options { more: door.config(""), ..Options::default() };
    let mut server = Server::start(&scratch, "server", &options).await.unwrap();
    server.write_documents("edge", &remote_entry("spiffe://example.org/edge", "edge")).unwrap();
    let edge = door.operator.issue(&proxy("edge"), Duration::from_secs(3600)).unwrap();
    // In a runtime of its own, with which its connection ends.
    let served = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let channel = connect(door.address, &edge).await.unwrap();
            sds::svid_over(channel, "default").await.is_ok()
        })
    };
    let elsewhere = || std::thread::scope(|scope| scope.spawn(served).join().unwrap());
    poll::holds("the edge is served", SOON, async || elsewhere()).await.unwrap();
    // No kernel tells of its end, as it does of a process.
    let holders = || {
        let ran = server.cli(&["streams", "--not-holding", "default", "-o", "json"]).unwrap();
        serde_json::from_slice::<serde_json::Value>(&ran.stdout).unwrap()
    };
    let away = poll::until("it is away and counts", SOON, async || {
        let missing = holders()["missing"][0].clone();
        (missing["connected"] == false).then(|| missing["holder"].as_str().unwrap().to_owned())
    });
    let holder = away.await.unwrap_or_else(|error| panic!("{error}: {}\n{}", holders(), server.log()));
    let forget = |holder: &str| server.cli(&["streams", "forget", holder]).unwrap();
    let ran = forget(&holder);
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(holders()["members"], 0);
    let ran = forget(&holder);
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(1) && said.contains("no member of the roster"), "{said}");

    server.stop().await.unwrap();
    let (store, _writer) = spiffe_bridge::store::open(&server.data().join("store.redb")).unwrap();
    let log = spiffe_bridge::audit::Log::open(store, spiffe_bridge::clock::Clock::system()).unwrap();
    let records = log.read(0, 1000).unwrap();
    let forgotten = |record: &&spiffe_bridge::audit::Record| record.event.kind == "roster.member_forgotten";
    let record = records.iter().find(forgotten).expect("on record");
    assert_eq!(record.event.subject, holder);
    assert_eq!(record.event.detail["identities"][0], "spiffe://example.org/edge");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_caller_cannot_get_a_local_identity() {
    let scratch = Scratch::new().unwrap();
    let door = Door::new(&scratch).unwrap();
    let options = Options { more: door.config(", dns_names: [sds.example.org]"), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let (local, remote) = ("spiffe://example.org/local", "spiffe://example.org/edge");
    server.add_entry(local, &[&Seats::here().own_selector().unwrap()]).unwrap();
    server.write_documents("edge", &remote_entry(remote, "edge")).unwrap();
    let socket = server.socket();
    poll::holds("the local one is served", SOON, async || sds::svid(&socket, local).await.is_ok())
        .await
        .unwrap();

    // The very process that has the local identity over the socket has none over the network.
    let edge = door.operator.issue(&proxy("edge"), Duration::from_secs(3600)).unwrap();
    let channel = connect(door.address, &edge).await.unwrap();
    let mut delta = SecretDiscoveryServiceClient::new(channel);
    let request = DeltaDiscoveryRequest {
        resource_names_subscribe: vec![local.into(), "default".into(), remote.into()],
        ..DeltaDiscoveryRequest::default()
    };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut answers = delta.delta_secrets(requests).await.unwrap().into_inner();
    let (mut given, mut removed) = (Vec::new(), Vec::new());
    while given.len() < 2 || removed.is_empty() {
        let answer = tokio::time::timeout(SOON, answers.message()).await.expect("in time").unwrap().unwrap();
        given.extend(answer.resources.into_iter().map(|resource| resource.name));
        removed.extend(answer.removed_resources);
    }
    given.sort();
    assert_eq!((given, removed), (vec!["default".into(), remote.to_owned()], vec![local.to_owned()]));
    // And the local caller has nothing of the remote one's.
    let asked = tokio::time::timeout(Duration::from_secs(2), sds::svid(&socket, remote)).await;
    assert!(asked.is_err() || asked.unwrap().is_err());

    let stream = shake(door.address, client(Some(&edge)).unwrap()).await.unwrap();
    let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let facts = spiffe_bridge::x509::inspect::leaf(shown).unwrap();
    assert_eq!(facts.uris, ["spiffe://example.org/countersign/server"]);
    assert_eq!(facts.dns_names, ["sds.example.org"]);
}
