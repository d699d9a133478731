//! What the statistics of Envoys prove that come over the network: what went over their own connection.

use envoy_configs::{Kind, Receipts};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use integration::envoy::Envoy;
use integration::mesh::{Mesh, Plan, Way, another, comes_to, proxy, settings};
use integration::poll;
use integration::remote::connect;
use integration::server::Options;
use std::time::Duration;
use tokio_stream::StreamExt as _;

use super::asked::{SOON, boast, missing, states, version, whys, without_sink};

fn all(mesh: &Mesh, state: &str) -> Vec<(String, String, String)> {
    [("api", "ROOTCA"), ("api", &*mesh.api_id), ("web", "ROOTCA"), ("web", "default")]
        .map(|(node, name)| (node.to_owned(), name.to_owned(), state.to_owned()))
        .to_vec()
}

/// Over the network: nothing there is known of a process.
fn plan(server: Options) -> Plan {
    Plan { way: Way::Network, server, ..Plan::default() }
}

async fn proved(mesh: &Mesh) {
    let is_all = async || states(&mesh.server) == all(mesh, "proved_applied");
    let proved = poll::holds("everything is proved", SOON, is_all).await;
    proved.unwrap_or_else(|_| panic!("{:?}\n{}", states(&mesh.server), mesh.server.log()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_envoy_proves_what_it_uses_and_is_remembered_over_a_restart() {
    let renewed = Options { leaf_lifetime: Some("20s".into()), renew_at: Some(0.1), ..Options::default() };
    let mut mesh = Mesh::start(&plan(renewed)).await.unwrap();
    proved(&mesh).await;
    let (status, holders) = missing(&mesh.server, &["ROOTCA"]);
    assert_eq!((status, &holders["members"]), (Some(0), &2.into()), "{holders}");

    mesh.server.stop().await.unwrap();
    mesh.server.restart().await.unwrap();
    // The members outlived it, and none of them is taken at its word: each connection is a new one.
    let (status, holders) = missing(&mesh.server, &["ROOTCA"]);
    assert_eq!((status, &holders["members"]), (Some(1), &2.into()), "{holders}");
    assert!(whys(&holders).iter().all(|why| ["not_proved", "acknowledged_only"].contains(why)), "{holders}");
    poll::holds("the certificates are proved again", SOON, async || {
        let proved = states(&mesh.server).into_iter().filter(|(_, _, state)| state == "proved_applied");
        proved.map(|(_, name, _)| name).collect::<Vec<_>>() == [mesh.api_id.clone(), "default".into()]
    })
    .await
    .unwrap();
    assert_eq!(whys(&missing(&mesh.server, &["ROOTCA"]).1), ["not_proved", "not_proved"]);
}

/// A second Envoy that shows a certificate of `web`'s name.
async fn second(mesh: &Mesh, receipts: Option<Receipts>) -> Envoy {
    let mut settings = settings(&mesh.scratch, "second", &mesh.server, &Plan::default()).unwrap();
    let dir = mesh.scratch.dir("second-proxy", None).unwrap();
    settings.remote = Some(comes_to(mesh.door.as_ref().unwrap(), &mesh.server, &dir, "web").unwrap());
    if let Some(receipts) = receipts {
        settings.receipts = receipts;
    }
    another(&mesh.scratch, "second", &mesh.web_seat, (Kind::Sidecar, &settings)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_proves_nothing_for_another_with_its_certificate() {
    let mesh = Mesh::start(&plan(Options::default())).await.unwrap();
    proved(&mesh).await;
    let why = |mesh: &Mesh| whys(&missing(&mesh.server, &["ROOTCA"]).1).join(" ");
    // The first one goes on telling its counters; the second has none to tell.
    let silent = second(&mesh, Some(Receipts::Never)).await;
    poll::holds("who shares the certificate is not proved", SOON, async || {
        why(&mesh) == "acknowledged_only" && states(&mesh.server).iter().any(|(node, ..)| node == "second")
    })
    .await
    .unwrap();
    let table = String::from_utf8(mesh.server.cli(&["streams"]).unwrap().stdout).unwrap();
    assert_eq!(table.matches("acknowledged only: no statistics sink").count(), 2, "its two: {table}");
    drop(silent);
    proved(&mesh).await;

    // With counters of its own both are.
    let _second = second(&mesh, None).await;
    let of = |node: &str, name: &str| (node.to_owned(), name.to_owned(), "proved_applied".to_owned());
    let five = [all(&mesh, "proved_applied"), vec![of("second", "ROOTCA"), of("second", "default")]].concat();
    let five: std::collections::BTreeSet<_> = five.into_iter().collect();
    poll::holds("both are proved, each over its own connection", SOON, async || {
        states(&mesh.server).into_iter().collect::<std::collections::BTreeSet<_>>() == five
    })
    .await
    .unwrap_or_else(|_| panic!("{:?}", states(&mesh.server)));
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_over_another_connection_prove_nothing_even_with_the_same_certificate() {
    let mesh = Mesh::start(&Plan { change: without_sink, ..plan(Options::default()) }).await.unwrap();
    poll::holds("both are members, and web is proved", SOON, async || {
        let (_, holders) = missing(&mesh.server, &["ROOTCA"]);
        holders["members"] == 2 && whys(&holders) == ["acknowledged_only"]
    })
    .await
    .unwrap();
    let door = mesh.door.as_ref().unwrap();
    let version = version(&mesh.server);
    for (name, has_stream) in [("api", false), ("web", false), ("api", true)] {
        let credential = door.operator.issue(&proxy(name), Duration::from_secs(3600)).unwrap();
        let mut channel = connect(door.address, &credential).await.unwrap();
        // With a stream of its own it is heard, and what it says is of that stream.
        let names = if has_stream { vec!["default".into()] } else { Vec::new() };
        let request =
            DeltaDiscoveryRequest { resource_names_subscribe: names, ..DeltaDiscoveryRequest::default() };
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let mut delta = SecretDiscoveryServiceClient::new(channel.clone());
        let mut answers = delta.delta_secrets(requests).await.unwrap().into_inner();
        if has_stream {
            tokio::time::timeout(SOON, answers.message()).await.unwrap().unwrap().unwrap();
        }
        boast(&mut channel, "ROOTCA", &version).await;
        let (status, holders) = missing(&mesh.server, &["ROOTCA"]);
        assert_eq!((status, whys(&holders)), (Some(1), vec!["acknowledged_only"]), "{name}: {holders}");
        assert_eq!(holders["missing"][0]["identities"][0], *mesh.api_id);
    }
}
