//! A caller that tries names: what exists and is not its own is answered like what does not exist, octet for octet.
//!
//! Only what must differ is made equal before: the name asked for, and the nonce.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::{Child, Command};
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
};
use integration::raw::{self, Answer, Part, Peer};
use integration::scratch::Scratch;
use integration::seats::{self, Seats};
use integration::server::{Options, Server};
use integration::{poll, sds};
use prost::Message;
use sds_server::proto::workload::{JwtsvidRequest, ValidateJwtsvidRequest, WitsvidRequest};

const SOCKET: &str = "COUNTERSIGN_TEST_SOCKET";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const MINE: &str = "spiffe://example.org/mine";

/// Of equal length: another's, which it holds at this moment; one that the caller matches but for one selector; one
/// that is nowhere; and one in a trust domain that is nowhere.
const IDS: [&str; 4] = [
    "spiffe://example.org/ten-a",
    "spiffe://example.org/ten-b",
    "spiffe://example.org/ten-c",
    "spiffe://example.net/ten-a",
];
const DNS: [&str; 4] = ["ten-a.example.org", "ten-b.example.org", "ten-c.example.org", "ten-a.example.net"];

/// Not a test of its own: the other tenant, which holds its identity until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn helper_tenant() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    let _ = sds::follow(socket.as_ref(), &[IDS[0]], |_, is_there| {
        if is_there {
            println!("held");
        }
    })
    .await;
}

struct Tenant(Child);

impl Drop for Tenant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn options() -> Options {
    Options { more: "workload_api: {wit_svids: true}\n".into(), ..Options::default() }
}

/// A server, its entries, and the tenant that holds its own.
async fn world(scratch: &Scratch) -> (Server, Tenant) {
    let server = Server::start(scratch, "server", &options()).await.unwrap();
    let program = seats::copied(scratch, "tenant", &std::env::current_exe().unwrap()).unwrap();
    let tenant = format!("unix:path:{}", program.canonicalize().unwrap().display());
    let entry = |name: &str, selectors: &str, dns: &str| {
        format!("kind: Workload\nspiffe_id: {name}\nselectors: [{selectors}]\ndns_names: [{dns}]\n")
    };
    server.write_documents("a", &entry(IDS[0], &format!("'{tenant}'"), DNS[0])).unwrap();
    let near = format!("'{}', 'unix:uid:3999999999'", Seats::Programs.own_selector().unwrap());
    server.write_documents("b", &entry(IDS[1], &near, DNS[1])).unwrap();
    let log = std::fs::File::create(scratch.path().join("tenant.log")).unwrap();
    let mut command = Command::new(program);
    command.args(["helper_tenant", "--exact", "--nocapture"]).env(SOCKET, server.socket()).stdout(log);
    let tenant = Tenant(command.spawn().unwrap());
    let held = async || {
        std::fs::read_to_string(scratch.path().join("tenant.log")).is_ok_and(|said| said.contains("held"))
    };
    poll::holds("the tenant holds its own", Duration::from_secs(20), held).await.unwrap();
    (server, tenant)
}

/// What came, made comparable: `name` and `nonce` in it are as many dashes.
fn comparable(mut answer: Answer, name: &str, nonce: &str) -> Answer {
    let blank = |bytes: &[u8], text: &str| {
        let mut bytes = bytes.to_vec();
        let found: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(text.as_bytes())).collect();
        found.into_iter().filter(|_| !text.is_empty()).for_each(|at| bytes[at..at + text.len()].fill(b'-'));
        bytes
    };
    answer.body = blank(&blank(&answer.body, name), nonce);
    answer
}

fn grpc(path: &str, message: Vec<u8>) -> Vec<Part> {
    let mut fields = raw::grpc(path);
    fields.push(("workload.spiffe.io", "true".into()));
    vec![Part::headers(raw::block(&fields)), Part::data(raw::message(&message))]
}

fn ended(mut parts: Vec<Part>) -> Vec<Part> {
    let last = parts.pop().unwrap();
    parts.push(last.last());
    parts
}

fn names(name: &str) -> DiscoveryRequest {
    DiscoveryRequest { resource_names: vec![name.into()], type_url: SECRET.into(), ..Default::default() }
}

/// Every way to ask SDS for `name`; each answer without what must differ.
async fn by_sds(server: &Server, name: &str) -> Vec<Answer> {
    let mut peer = Peer::connect(&server.socket()).await.unwrap();
    let fetch = |name| ended(grpc("/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", name));
    let whole = |_: &[u8]| false;
    // Answered once it is known who calls: from there on a stream that stays silent has nothing to say.
    let fetched = peer.ask(&fetch(names(name).encode_to_vec()), whole).await.unwrap();
    let mut answers = vec![comparable(fetched, name, "")];
    for path in [
        "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    ] {
        let answer = peer.ask(&ended(grpc(path, names(name).encode_to_vec())), whole).await.unwrap();
        answers.push(comparable(answer, name, ""));
    }
    for path in [
        "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    ] {
        let request = DeltaDiscoveryRequest {
            resource_names_subscribe: vec![name.into()],
            type_url: SECRET.into(),
            ..Default::default()
        };
        let answer = peer.ask(&ended(grpc(path, request.encode_to_vec())), whole).await.unwrap();
        let response = DeltaDiscoveryResponse::decode(raw::messages(&answer.body)[0]).unwrap();
        assert_eq!((response.removed_resources, response.resources), (vec![name.to_owned()], Vec::new()));
        answers.push(comparable(answer, name, &response.nonce));
    }
    let json = serde_json::json!({ "resource_names": [name], "type_url": SECRET }).to_string();
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v3/discovery:secrets"),
        (":authority", "sds"),
        ("content-type", "application/json"),
    ];
    let parts = [Part::headers(raw::block(&head)), Part::data(json.into_bytes()).last()];
    answers.push(comparable(peer.ask(&parts, whole).await.unwrap(), name, ""));
    answers
}

/// Every call of the Workload API that takes a SPIFFE ID.
async fn by_workload_api(server: &Server, id: &str) -> Vec<Answer> {
    let mut peer = Peer::connect(&server.socket()).await.unwrap();
    let jwt = JwtsvidRequest { audience: vec!["somebody".into()], spiffe_id: id.into() };
    let wit = WitsvidRequest { spiffe_id: id.into() };
    let token = format!(
        "e30.{}.e30",
        data_encoding::BASE64URL_NOPAD.encode(format!("{{\"sub\":\"{id}\"}}").as_bytes())
    );
    let validate = ValidateJwtsvidRequest { audience: "somebody".into(), svid: token };
    let mut answers = Vec::new();
    for (method, message) in [
        ("FetchJWTSVID", jwt.encode_to_vec()),
        ("FetchWITSVID", wit.encode_to_vec()),
        ("ValidateJWTSVID", validate.encode_to_vec()),
    ] {
        let parts = ended(grpc(&format!("/SpiffeWorkloadAPI/{method}"), message));
        let answer = peer.ask(&parts, |body| !raw::messages(body).is_empty()).await.unwrap();
        assert_eq!(answer.body, b"", "{method} {id}: {answer:?}");
        assert!(answer.grpc().is_some_and(|code| code != 0), "{method} {id}: {answer:?}");
        answers.push(comparable(answer, id, ""));
    }
    answers
}

/// Nothing tells the names apart.
async fn equal_for_each(server: &Server, who: &str) {
    let kinds: [&dyn Fn(usize) -> String; 5] = [
        &|n| IDS[n].to_owned(),
        &|n| DNS[n].to_owned(),
        &|n| format!("peers:{}", IDS[n]),
        &|n| format!("upstream:{}", DNS[n]),
        &|n| format!("{}/below", IDS[n]),
    ];
    for kind in kinds {
        let nowhere = by_sds(server, &kind(2)).await;
        for n in [0, 1, 3] {
            let (name, answers) = (kind(n), by_sds(server, &kind(n)).await);
            assert_eq!(answers, nowhere, "{who}: {name}");
        }
    }
    let nowhere = by_workload_api(server, IDS[2]).await;
    for n in [0, 1, 3] {
        assert_eq!(by_workload_api(server, IDS[n]).await, nowhere, "{who}: {}", IDS[n]);
    }
}

/// The answers of calls without a name to a caller without an identity.
async fn denied(server: &Server) -> Vec<Answer> {
    let mut peer = Peer::connect(&server.socket()).await.unwrap();
    let mut answers = Vec::new();
    for method in ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles", "FetchWITSVID", "FetchWITBundles"]
    {
        let parts = ended(grpc(&format!("/SpiffeWorkloadAPI/{method}"), Vec::new()));
        let answer = peer.ask(&parts, |body| !raw::messages(body).is_empty()).await.unwrap();
        assert_eq!((answer.grpc(), answer.body.len()), (Some(7), 0), "{method}: {answer:?}");
        answers.push(answer);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_others_are_answered_like_names_that_do_not_exist_octet_for_octet() {
    let scratch = Scratch::new().unwrap();
    let (server, tenant) = world(&scratch).await;
    let before = denied(&server).await;
    equal_for_each(&server, "a caller without an identity").await;
    server.add_entry(MINE, &[&format!("'{}'", Seats::Programs.own_selector().unwrap())]).unwrap();
    let socket = server.socket();
    poll::holds("served", Duration::from_secs(10), async || sds::svid(&socket, MINE).await.is_ok())
        .await
        .unwrap();
    equal_for_each(&server, "a caller with one").await;
    drop(tenant);

    // Where no entry is left at all, who has none is told the same.
    let empty = Server::start(&scratch, "empty", &options()).await.unwrap();
    assert_eq!(denied(&empty).await, before);
}
