//! One question, one answer: FetchSecrets by gRPC, and by REST for an Envoy that polls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use integration::app::App;
use integration::mesh::{Mesh, Plan, Pool, Way, proxy, remote_entry};
use integration::remote::{self, Door};
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::{poll, sds};
use prost::Message;
use tonic::Code;
use tonic::transport::Channel;

#[tokio::test(flavor = "multi_thread")]
async fn fetch_secrets_answers_what_there_is() {
    let scratch = Scratch::new().unwrap();
    let server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
    let selector = Seats::here().own_selector().unwrap();
    let channel = sds::connect(&server.socket()).await.unwrap();
    answers(channel, || server.add_entry("spiffe://example.org/web", &[&selector]).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_secrets_answers_the_same_over_the_network() {
    let scratch = Scratch::new().unwrap();
    let door = Door::new(&scratch).unwrap();
    let options = Options { more: door.config(""), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let credential = door.operator.issue(&proxy("edge"), Duration::from_secs(3600)).unwrap();
    let channel = remote::connect(door.address, &credential).await.unwrap();
    let entry = remote_entry("spiffe://example.org/web", "edge");
    answers(channel, || server.write_documents("edge", &entry).unwrap()).await;
}

/// Asks over `channel` before and after its caller has an identity.
async fn answers(channel: Channel, give_identity: impl FnOnce()) {
    let mut client = SecretDiscoveryServiceClient::new(channel);
    let mut fetch = async |names: &[&str]| {
        let resource_names = names.iter().map(ToString::to_string).collect();
        client.fetch_secrets(DiscoveryRequest { resource_names, ..Default::default() }).await
    };
    assert_eq!(fetch(&["default"]).await.unwrap_err().code(), Code::NotFound, "no entry yet");
    give_identity();
    poll::holds("served", Duration::from_secs(5), async || fetch(&["default"]).await.is_ok()).await.unwrap();

    let response = fetch(&["default", "ROOTCA", "nothing", "default"]).await.unwrap().into_inner();
    let names: Vec<String> = response
        .resources
        .iter()
        .map(|any| Secret::decode(&*any.value).unwrap())
        .inspect(|secret| {
            let fits = match secret.r#type.as_ref().unwrap() {
                secret::Type::TlsCertificate(_) => secret.name == "default",
                secret::Type::ValidationContext(_) => secret.name == "ROOTCA",
                _ => false,
            };
            assert!(fits, "{}", secret.name);
        })
        .map(|secret| secret.name)
        .collect();
    assert_eq!(names, ["ROOTCA", "default"]);
    let again = fetch(&["default", "ROOTCA"]).await.unwrap().into_inner();
    assert_eq!(response.version_info, again.version_info);
    assert_eq!(fetch(&["spiffe://example.org/other"]).await.unwrap_err().code(), Code::NotFound);
}

/// The block of `api_config_source` with other keys, in the indentation that it has.
fn by_rest(text: String) -> String {
    let (before, rest) = text.split_once("api_type: DELTA_GRPC\n").expect("the kind of source");
    let (_, after) = rest.split_once("max_interval: 5s } }\n").expect("the end of the source");
    let indent = before.rsplit('\n').next().unwrap();
    let keys = ["api_type: REST", "transport_api_version: V3", "cluster_names: [sds]", "refresh_delay: 0.2s"];
    format!("{before}{}\n{after}", keys.join(&format!("\n{indent}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_polls_by_rest_is_served_and_renewed() {
    polls(Way::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_polls_by_rest_is_served_and_renewed_over_the_network() {
    polls(Way::Network).await;
}

async fn polls(way: Way) {
    let server = Options { leaf_lifetime: Some("8s".into()), ..Options::default() };
    let plan = Plan { way, server, change: by_rest, pool: Pool::HandshakeEach, ..Plan::default() };
    let mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    assert_eq!(mesh.call(&[]).await.unwrap().peer, std::slice::from_ref(&mesh.web_id));
    let first = mesh.api.serial(&mesh.api_id).await.unwrap();
    let renewed = async || mesh.api.serial(&mesh.api_id).await.unwrap() != first;
    poll::holds("a poll brings the renewed one", Duration::from_secs(10), renewed).await.unwrap();
    mesh.call(&[]).await.unwrap();
    let stats = mesh.api.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
    assert_eq!(stats.sum("sds.", ".update_failure"), 0);
}
