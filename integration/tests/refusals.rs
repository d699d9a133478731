//! Nobody gets past a strict listener but a live SVID of this trust domain that it allows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use integration::app::App;
use integration::mesh::{Mesh, Plan};
use integration::server::{Options, Server};
use integration::stranger::{Attempt, Credential, RogueCa, call, call_in_clear};
use integration::{poll, sds};

const SOON: Duration = Duration::from_secs(5);

/// The listener's own word on why, from its access log.
async fn logged(mesh: &Mesh, reason: &str) {
    let said = async || {
        // Envoy writes spaces as underscores in this field.
        mesh.api.log().lines().any(|line| line.contains("refused=") && line.contains(reason))
    };
    poll::holds(&format!("the log says {reason}:\n{}", mesh.api.log()), SOON, said).await.unwrap();
}

async fn refused(mesh: &Mesh, credential: Option<&Credential>, reason: &str) {
    let attempt = call(mesh.inbound, credential).await.unwrap();
    assert!(attempt.is_refused(), "{reason}: {attempt:?}");
    logged(mesh, reason).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_the_log_says_why() {
    let mesh = Mesh::start(&Plan::default()).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    mesh.call(&[]).await.expect("the one that is allowed gets in");

    refused(&mesh, None, "PEER_DID_NOT_RETURN_A_CERTIFICATE").await;
    assert!(call_in_clear(mesh.inbound).await.unwrap().is_refused());
    logged(&mesh, "HTTP_REQUEST").await;

    // Right in every word, signed by nobody that is known.
    let rogue = RogueCa::new("example.org").unwrap().svid(&mesh.web_id).unwrap();
    refused(&mesh, Some(&rogue), "unable_to_get_local_issuer_certificate").await;

    // A real SVID, of somebody else's trust domain.
    let elsewhere = Options { trust_domain: "other.test".into(), ..Options::default() };
    let other = Server::start(&mesh.scratch, "other", &elsewhere).await.unwrap();
    let me = mesh.seats.own_selector().unwrap();
    other.add_entry("spiffe://other.test/web", &[&me]).unwrap();
    let foreign = sds::svid(&other.socket(), "spiffe://other.test/web").await.unwrap();
    refused(&mesh, Some(&foreign), "unable_to_get_local_issuer_certificate").await;

    // A real SVID of this trust domain, whom this service does not allow.
    mesh.server.add_entry("spiffe://example.org/intruder", &[&me]).unwrap();
    let intruder = sds::svid(&mesh.server.socket(), "spiffe://example.org/intruder").await.unwrap();
    refused(&mesh, Some(&intruder), "SAN_matcher").await;

    mesh.call(&[]).await.expect("the one that is allowed still gets in");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_while_renewed_ones_go_on() {
    let server = Options { leaf_lifetime: Some("4s".into()), ..Options::default() };
    let mesh = Mesh::start(&Plan { server, ..Plan::default() }).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    // This process is `web` too, so that only time can be the reason.
    mesh.server.add_entry("spiffe://example.org/web", &[&mesh.seats.own_selector().unwrap()]).unwrap();
    let credential = poll::until("this process has an SVID", SOON, async || {
        sds::svid(&mesh.server.socket(), "default").await.ok()
    })
    .await
    .unwrap();
    let attempt = call(mesh.inbound, Some(&credential)).await.unwrap();
    assert!(matches!(attempt, Attempt::Answered(_)), "while valid: {attempt:?}");

    let expires = UNIX_EPOCH + Duration::from_secs(credential.not_after().unwrap() + 1);
    poll::holds("it expires", Duration::from_secs(10), async || SystemTime::now() > expires).await.unwrap();
    refused(&mesh, Some(&credential), "certificate_has_expired").await;

    let renewed = sds::svid(&mesh.server.socket(), "default").await.unwrap();
    let attempt = call(mesh.inbound, Some(&renewed)).await.unwrap();
    assert!(matches!(attempt, Attempt::Answered(_)), "renewed: {attempt:?}");
}
