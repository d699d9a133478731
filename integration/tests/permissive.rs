//! A migration: callers in clear get in beside those with a certificate, prove nothing, and are counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use envoy_configs::Kind;
use integration::app::{App, Seen};
use integration::mesh::{Mesh, Plan};
use integration::stranger::{RogueCa, call};
use integration::{http, poll};

const FORGED: [(&str, &str); 2] = [
    ("x-forwarded-client-cert", "By=spiffe://example.org/api;URI=spiffe://example.org/admin"),
    ("x-peer-spiffe-id", "spiffe://example.org/admin"),
];

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_lead_in_and_what_is_still_plaintext_is_counted() {
    let mesh = Mesh::start(&Plan { api_kind: Kind::Permissive, ..Plan::default() }).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();

    assert_eq!(mesh.call(&FORGED).await.unwrap().peer, std::slice::from_ref(&mesh.web_id));

    let answer = http::get_tcp(mesh.inbound, "/", &FORGED).await.unwrap();
    let seen = Seen::parse(answer.body()).unwrap();
    assert_eq!(seen.xfcc, Vec::<String>::new(), "a forged one is removed");
    assert_eq!(seen.peer, [""], "nobody has proved an ID");

    let stats = mesh.api.stats().await.unwrap();
    assert_eq!(stats.get("http.inbound_plain.downstream_rq_total"), 1);
    assert_eq!(stats.get("http.inbound.downstream_rq_total"), 1);
    let line = "chain=plain peer=-";
    poll::holds(
        &format!("the log names who calls in clear\n{}", mesh.api.log()),
        Duration::from_secs(5),
        async || mesh.api.log().lines().any(|said| said.contains("from=127.0.0.1:") && said.contains(line)),
    )
    .await
    .unwrap();
}

/// Who speaks TLS is held to it: there is no falling back to the chain in clear.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_certificate_does_not_get_in_as_plaintext() {
    let mesh = Mesh::start(&Plan { api_kind: Kind::Permissive, ..Plan::default() }).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    let rogue = RogueCa::new("example.org").unwrap().svid(&mesh.web_id).unwrap();
    for credential in [None, Some(&rogue)] {
        let attempt = call(mesh.inbound, credential).await.unwrap();
        assert!(attempt.is_refused(), "{attempt:?}");
    }
    let stats = mesh.api.stats().await.unwrap();
    assert_eq!(stats.get("http.inbound_plain.downstream_cx_total"), 0);
}
