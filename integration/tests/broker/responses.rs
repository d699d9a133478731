//! What is told of a workload: the same as it would be told itself.

use integration::sds;
use prost::Message;
use prost_types::FileDescriptorSet;
use sds_server::proto::broker::{
    DESCRIPTORS, FetchJwtsvidRequest, FetchJwtsvidResponse, SubscribeToJwtBundlesRequest,
    SubscribeToJwtBundlesResponse, SubscribeToX509BundlesRequest, SubscribeToX509BundlesResponse,
    SubscribeToX509svidRequest, SubscribeToX509svidResponse,
};
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::fixture::{BROKER, Node, WEB, ask, by_pid, followed, ids, next, own, selector, stream, svids};

const ADMIN: &str = "spiffe://example.org/admin";

async fn tokens(
    channel: &Channel,
    pid: u32,
    audience: &[&str],
    spiffe_id: &str,
) -> Result<FetchJwtsvidResponse, Status> {
    let audience = audience.iter().map(ToString::to_string).collect();
    let question = FetchJwtsvidRequest { reference: by_pid(pid), audience, spiffe_id: spiffe_id.into() };
    ask(channel, "FetchJWTSVID", question).await
}

async fn bundles(channel: &Channel, pid: u32) -> SubscribeToX509BundlesResponse {
    let question = SubscribeToX509BundlesRequest { reference: by_pid(pid) };
    ask(channel, "SubscribeToX509Bundles", question).await.unwrap()
}

async fn keys(channel: &Channel, pid: u32) -> SubscribeToJwtBundlesResponse {
    let question = SubscribeToJwtBundlesRequest { reference: by_pid(pid) };
    ask(channel, "SubscribeToJWTBundles", question).await.unwrap()
}

/// A part of a token, as JSON.
fn part(token: &str, nth: usize) -> Value {
    let part = token.split('.').nth(nth).unwrap();
    serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_01_both_profiles_are_served() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let response = svids(&channel, workload.id()).await.unwrap();
    assert_eq!(ids(&response), [WEB]);
    let svid = &response.svids[0];
    assert!(!svid.x509_svid.is_empty() && !svid.x509_svid_key.is_empty() && !svid.bundle.is_empty());
    assert_eq!(bundles(&channel, workload.id()).await.bundles.len(), 1);
    let token = &tokens(&channel, workload.id(), &["reports"], "").await.unwrap().svids[0];
    assert_eq!((token.spiffe_id.as_str(), part(&token.svid, 1)["sub"].as_str()), (WEB, Some(WEB)));
    assert_eq!(keys(&channel, workload.id()).await.bundles.len(), 1);
}

#[test]
fn ba_02_the_service_is_the_standards_and_no_more() {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let file = files.file.iter().find(|file| file.package() == "spiffe.broker").unwrap();
    let methods: Vec<_> = file.service[0]
        .method
        .iter()
        .map(|method| (method.name(), method.client_streaming(), method.server_streaming()))
        .collect();
    assert_eq!((file.service.len(), file.service[0].name()), (1, "API"));
    assert_eq!(
        methods,
        [
            ("SubscribeToX509SVID", false, true),
            ("SubscribeToX509Bundles", false, true),
            ("FetchJWTSVID", false, false),
            ("SubscribeToJWTBundles", false, true),
        ]
    );
    let fields = |message: &str| -> Vec<_> {
        let message = file.message_type.iter().find(|found| found.name() == message).unwrap();
        message.field.iter().map(|field| (field.name().to_owned(), field.number())).collect()
    };
    let named = |fields: &[(&str, i32)]| -> Vec<_> {
        fields.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    };
    assert_eq!(fields("WorkloadReference"), named(&[("reference", 1)]));
    assert_eq!(fields("WorkloadPIDReference"), named(&[("pid", 1)]));
    let request = [("reference", 1), ("audience", 2), ("spiffe_id", 3)];
    assert_eq!(fields("FetchJWTSVIDRequest"), named(&request));
    let response = [("svids", 1), ("crl", 2), ("federated_bundles", 3)];
    assert_eq!(fields("SubscribeToX509SVIDResponse"), named(&response));
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_16_only_the_ids_that_are_listed_are_brokers() {
    let node = Node::start().await;
    let workload = node.workload();
    for (name, near) in [
        ("below", "spiffe://example.org/broker/sub"),
        ("longer", "spiffe://example.org/brokers"),
        ("shorter", "spiffe://example.org/brok"),
        ("case", "spiffe://example.org/Broker"),
    ] {
        node.give(name, near, &own()).await;
        let channel = node.channel(&node.svid(near).await).await;
        let refused = svids(&channel, workload.id()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{near}");
    }
    svids(&node.channel(&node.svid(BROKER).await).await, workload.id()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_20_every_message_is_everything() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let mut stream = followed(&channel, workload.id()).await;
    node.give("admin", ADMIN, &selector("sleep")).await;
    assert_eq!(ids(&next(&mut stream).await.unwrap()), [ADMIN, WEB]);
    node.give("web", WEB, &selector("tail")).await;
    assert_eq!(ids(&next(&mut stream).await.unwrap()), [ADMIN], "what is gone is not in it");
    // Of this workload: the broker's own are in no message, and another workload's neither.
    node.give("admin", ADMIN, &selector("tail")).await;
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_21_the_first_message_comes_at_once_and_others_when_something_changed() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let mut one = followed(&channel, workload.id()).await;
    // Nothing has changed, and the second stream has its first message all the same.
    let mut two = followed(&channel, workload.id()).await;
    // What is not about this workload brings no message: the next one is of what is.
    node.give("other", "spiffe://example.org/other", &selector("tail")).await;
    node.give("admin", ADMIN, &selector("sleep")).await;
    for stream in [&mut one, &mut two] {
        assert_eq!(ids(&next(stream).await.unwrap()), [ADMIN, WEB]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_24_what_must_be_there_and_is_not_is_an_invalid_argument() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    for audience in [&[][..], &[""], &["a", "b", "c", "d", "e"]] {
        let refused = tokens(&channel, workload.id(), audience, "").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{audience:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_31_there_is_an_svid_at_least_and_no_hint_is_of_two() {
    let node = Node::start().await;
    let both = format!(
        "kind: Workload\nspiffe_id: {ADMIN}\nselectors: ['{0}']\nhint: front\n---\nkind: Workload\nspiffe_id: {WEB}\nselectors: ['{0}']\nhint: front\n",
        selector("sleep")
    );
    node.server.write_documents("web", &both).unwrap();
    node.listed(ADMIN, true).await;
    let (channel, workload) = (node.broker().await, node.workload());
    let hints =
        |svids: Vec<(String, String)>| -> Vec<String> { svids.into_iter().map(|(_, hint)| hint).collect() };
    let response = svids(&channel, workload.id()).await.unwrap();
    assert_eq!(ids(&response), [ADMIN, WEB]);
    let told = response.svids.into_iter().map(|svid| (svid.spiffe_id, svid.hint)).collect();
    assert_eq!(hints(told), ["front", ""]);
    let told = tokens(&channel, workload.id(), &["reports"], "").await.unwrap();
    let told = told.svids.into_iter().map(|svid| (svid.spiffe_id, svid.hint)).collect();
    assert_eq!(hints(told), ["front", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_34_the_bundles_have_our_own_domain() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let told = bundles(&channel, workload.id()).await.bundles;
    let roots = &told["spiffe://example.org"];
    let response = svids(&channel, workload.id()).await.unwrap();
    assert_eq!(roots, &response.svids[0].bundle);
    // One identity, one certificate, whoever asks for it: the workload would get the same.
    let by_broker = svids(&channel, std::process::id()).await.unwrap();
    let by_sds = sds::svid(&node.server.socket(), BROKER).await.unwrap();
    assert!(by_broker.svids[0].x509_svid.starts_with(&by_sds.chain[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_36_a_token_is_for_its_audience_and_of_one_identity_or_all() {
    let node = Node::start().await;
    node.give("admin", ADMIN, &selector("sleep")).await;
    let (channel, workload) = (node.broker().await, node.workload());
    let all = tokens(&channel, workload.id(), &["reports", "billing"], "").await.unwrap();
    let told: Vec<_> = all.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(told, [ADMIN, WEB]);
    for svid in &all.svids {
        assert_eq!(part(&svid.svid, 1)["aud"], serde_json::json!(["reports", "billing"]));
    }
    let one = tokens(&channel, workload.id(), &["reports"], WEB).await.unwrap();
    assert_eq!(one.svids.len(), 1);
    assert_eq!(part(&one.svids[0].svid, 1)["sub"], WEB);
    for foreign in [BROKER, "spiffe://example.org/nobody"] {
        let refused = tokens(&channel, workload.id(), &["reports"], foreign).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{foreign}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_37_the_keys_of_tokens_are_of_that_use_alone() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let told = keys(&channel, workload.id()).await.bundles;
    let set: Value = serde_json::from_slice(&told["spiffe://example.org"]).unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert!(!keys.is_empty() && keys.iter().all(|key| key["use"] == "jwt-svid"), "{set}");
    let token = &tokens(&channel, workload.id(), &["reports"], "").await.unwrap().svids[0];
    let kid = &part(&token.svid, 0)["kid"];
    assert!(keys.iter().any(|key| &key["kid"] == kid), "its own among them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_brings_renewals() {
    let options = integration::server::Options {
        leaf_lifetime: Some("8s".into()),
        renew_at: Some(0.1),
        ..Default::default()
    };
    let node = Node::start_with(options).await;
    let (channel, workload) = (node.broker().await, node.workload());
    let question = SubscribeToX509svidRequest { reference: by_pid(workload.id()) };
    let mut stream =
        stream::<_, SubscribeToX509svidResponse>(&channel, "SubscribeToX509SVID", question).await.unwrap();
    let first = next(&mut stream).await.unwrap();
    let second = next(&mut stream).await.unwrap();
    assert_ne!(first.svids[0].x509_svid, second.svids[0].x509_svid);
    assert_eq!(ids(&second), [WEB]);
}
