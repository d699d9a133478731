//! One question, one answer: FetchSecrets by gRPC, and by REST for an Envoy that polls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::BASE64;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc::Status;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use integration::app::App;
use integration::ca::Ca;
use integration::mesh::{Mesh, Plan, Pool, Said, Way, api_entry, proxy, remote_entry};
use integration::remote::{self, Door};
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::stranger::call;
use integration::{poll, sds};
use prost::Message;
use serde_json::Value;
use spiffe::WorkloadApiClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::Channel;

#[path = "fetch/json.rs"]
mod json;
#[path = "fetch/trust.rs"]
mod trust;
#[path = "fetch/trusted.rs"]
mod trusted;
#[path = "fetch/world.rs"]
mod world;

const AUDIENCE: &str = "https://reports.example.org";

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

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_without_a_stream() {
    fetches_tokens(Way::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_without_a_stream_over_the_network() {
    fetches_tokens(Way::Network).await;
}

/// By gRPC and by REST, before there is an identity and through a renewal.
async fn fetches_tokens(way: Way) {
    let scratch = Scratch::new().unwrap();
    let door = Door::new(&scratch).unwrap();
    let more = format!("authority: {{jwt_lifetime: 8s}}\n{}", door.config(""));
    let server = Server::start(&scratch, "server", &Options { more, ..Options::default() }).await.unwrap();
    let credential = door.operator.issue(&proxy("edge"), Duration::from_secs(3600)).unwrap();
    let (channel, mut rest) = match way {
        Way::Socket => {
            let stream = UnixStream::connect(server.socket()).await.unwrap();
            (sds::connect(&server.socket()).await.unwrap(), dialled(stream).await)
        }
        Way::Network => {
            let config = remote::client(Some(&credential)).unwrap();
            let stream = remote::shake(door.address, config).await.unwrap();
            (remote::connect(door.address, &credential).await.unwrap(), dialled(stream).await)
        }
    };
    let mut client = SecretDiscoveryServiceClient::new(channel);
    let name = format!("jwt:{AUDIENCE}");
    let mut fetch = async || {
        let resource_names = vec![name.clone()];
        client.fetch_secrets(DiscoveryRequest { resource_names, ..Default::default() }).await
    };
    assert_eq!(fetch().await.unwrap_err().code(), Code::NotFound, "no entry yet");
    assert_eq!(polled(&mut rest, &[&name], "").await.0, 404, "no entry yet");

    let (id, own) = ("spiffe://example.org/web", Seats::here().own_selector().unwrap());
    match way {
        Way::Socket => server.add_entry(id, &[&own]).unwrap(),
        Way::Network => {
            server.write_documents("edge", &remote_entry(id, "edge")).unwrap();
            // Who judges here.
            server.add_entry("spiffe://example.org/judge", &[&own]).unwrap();
        }
    }
    let judge = WorkloadApiClient::connect_to(format!("unix:{}", server.socket().display())).await.unwrap();
    let mut seen = BTreeSet::new();
    let begin = Instant::now();
    while seen.len() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(40), "{} tokens", seen.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The entry may not have been read yet.
        let Ok(response) = fetch().await else { continue };
        let response = response.into_inner();
        let secret = Secret::decode(&*response.resources[0].value).unwrap();
        let Some(secret::Type::GenericSecret(generic)) = secret.r#type else { panic!("{}", secret.name) };
        let Some(Specifier::InlineBytes(bytes)) = generic.secret.unwrap().specifier else { panic!("a form") };
        let token = String::from_utf8(bytes).unwrap();
        // It is never one that is about to end, whenever it is asked for.
        let judged = judge.validate_jwt_token(AUDIENCE, &token).await.unwrap();
        assert_eq!(judged.spiffe_id().to_string(), id);
        let (status, told) = polled(&mut rest, &[&name], "").await;
        let version = told["version_info"].as_str().unwrap();
        assert_eq!(status, 200);
        let encoded = told["resources"][0]["generic_secret"]["secret"]["inline_bytes"].as_str().unwrap();
        let by_rest = String::from_utf8(BASE64.decode(encoded.as_bytes()).unwrap()).unwrap();
        if version == response.version_info {
            assert_eq!(by_rest, token);
            assert!(
                matches!(polled(&mut rest, &[&name], version).await.0, 304 | 200),
                "that one again, or the next"
            );
        }
        judge.validate_jwt_token(AUDIENCE, &by_rest).await.unwrap();
        seen.insert(token);
    }
}

async fn dialled<S>(stream: S) -> SendRequest<Full<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The answer by REST to a client that has `version` of `names`.
async fn polled(sender: &mut SendRequest<Full<Bytes>>, names: &[&str], version: &str) -> (u16, Value) {
    let question = serde_json::json!({ "resource_names": names, "version_info": version });
    let request =
        http::Request::post("http://sds/v3/discovery:secrets").header("content-type", "application/json");
    let answer = sender.send_request(request.body(question.to_string().into()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_on_a_stream_is_not_fetched_either() {
    let scratch = Scratch::new().unwrap();
    let server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
    server.add_entry("spiffe://example.org/web", &[&Seats::here().own_selector().unwrap()]).unwrap();
    let mut client = SecretDiscoveryServiceClient::new(sds::connect(&server.socket()).await.unwrap());
    let (requests, said) = tokio::sync::mpsc::channel(2);
    let ask = DiscoveryRequest { resource_names: vec!["default".into()], ..Default::default() };
    requests.send(ask.clone()).await.unwrap();
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut stream = client.stream_secrets(said).await.unwrap().into_inner();
    let sent = stream.message().await.unwrap().unwrap();
    let names = || vec!["default".to_owned(), "ROOTCA".to_owned()];
    let fetch = DiscoveryRequest { resource_names: names(), ..Default::default() };
    assert_eq!(client.fetch_secrets(fetch.clone()).await.unwrap().into_inner().resources.len(), 2);

    let error_detail = Some(Status { code: 13, message: "Failed to load".into(), ..Default::default() });
    let refusal = DiscoveryRequest { response_nonce: sent.nonce, error_detail, ..ask.clone() };
    requests.send(refusal).await.unwrap();
    poll::holds("only the roots are left", Duration::from_secs(5), async || {
        let left = client.fetch_secrets(fetch.clone()).await.unwrap().into_inner().resources;
        left.iter().all(|any| Secret::decode(&*any.value).unwrap().name == "ROOTCA")
    })
    .await
    .unwrap();
    assert_eq!(client.fetch_secrets(ask).await.unwrap_err().code(), Code::NotFound);
    let mut sender = dialled(UnixStream::connect(server.socket()).await.unwrap()).await;
    assert_eq!(polled(&mut sender, &["default"], "").await.0, 404);
    assert_eq!(polled(&mut sender, &["ROOTCA"], "").await.0, 200);
}

/// `peers` in JSON, before the judge of it: with our own roots alone, and with those of two domains.
#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_polls_by_rest_lets_in_whom_the_entries_list_and_nobody_else() {
    let plan = Plan { said: Said::InEntries, change: by_rest, pool: Pool::HandshakeEach, ..Plan::default() };
    let mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    assert_eq!(mesh.call(&[]).await.unwrap().peer, std::slice::from_ref(&mesh.web_id));
    let partner = Ca::new("partner", Some("spiffe://partner.test")).unwrap();
    let [front, back] = ["front", "back"].map(|path| format!("spiffe://partner.test/{path}"));
    let issue = |id: &String| partner.issue(id, Duration::from_secs(3600)).unwrap();
    let [listed, unlisted] = [&front, &back].map(issue);
    assert!(call(mesh.inbound, Some(&listed)).await.unwrap().is_refused());

    let document = world::declared("partner.test", &partner.pem());
    mesh.server.write_documents("partner", &document).unwrap();
    let entry = api_entry(&mesh.api_id, &mesh.api_seat, &[&mesh.web_id, &front]);
    mesh.server.write_documents("api", &entry).unwrap();
    let gets_in = async || !call(mesh.inbound, Some(&listed)).await.unwrap().is_refused();
    poll::holds("a poll brings the partner", Duration::from_secs(10), gets_in).await.unwrap();
    assert!(call(mesh.inbound, Some(&unlisted)).await.unwrap().is_refused(), "known roots are not enough");
    mesh.call(&[]).await.expect("our own still get in");
    let stats = mesh.api.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
    assert_eq!(stats.sum("sds.", ".update_failure"), 0);
}
