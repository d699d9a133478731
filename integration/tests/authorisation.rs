//! Who may call whom comes from the entries, with the roots, and changes live; the bootstraps name nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use integration::app::App;
use integration::ca::Ca;
use integration::mesh::{Mesh, Plan, Pool, Said, api_entry};
use integration::server::{Options, Server};
use integration::stranger::{Credential, call};
use integration::{poll, sds};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

async fn mesh() -> Mesh {
    let plan = Plan { said: Said::InEntries, pool: Pool::HandshakeEach, ..Plan::default() };
    Mesh::start(&plan).await.unwrap()
}

fn allow(mesh: &Mesh, peers: &[&str]) {
    mesh.server.write_documents("api", &api_entry(&mesh.api_id, &mesh.api_seat, peers)).unwrap();
}

async fn gets_in(mesh: &Mesh, credential: &Credential, yes: bool) {
    let what = format!("admitted: {yes}\n{}", mesh.api.log());
    let holds = async || call(mesh.inbound, Some(credential)).await.unwrap().is_refused() != yes;
    poll::holds(&what, SOON, holds).await.unwrap();
}

async fn credential(server: &Server, id: &str) -> Credential {
    poll::until("this process has an SVID", SOON, async || sds::svid(&server.socket(), id).await.ok())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_an_entry_get_in_and_nobody_else() {
    let mesh = mesh().await;
    let _app = App::start("api", mesh.app).await.unwrap();
    assert_eq!(mesh.call(&[]).await.unwrap().peer, std::slice::from_ref(&mesh.web_id));

    let other = "spiffe://example.org/other";
    mesh.server.add_entry(other, &[&mesh.seats.own_selector().unwrap()]).unwrap();
    let credential = credential(&mesh.server, other).await;
    gets_in(&mesh, &credential, false).await;

    allow(&mesh, &[&mesh.web_id, other]);
    gets_in(&mesh, &credential, true).await;
    mesh.call(&[]).await.expect("who was allowed before still is");

    // Without peers the matchers are of nobody: the listener does not fall open.
    allow(&mesh, &[]);
    gets_in(&mesh, &credential, false).await;
    assert!(!mesh.raw_call(&[]).await.unwrap().status().is_success());
    let stats = mesh.api.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_another_trust_domain_get_in_under_its_own_roots() {
    let mesh = mesh().await;
    let _app = App::start("api", mesh.app).await.unwrap();
    let elsewhere = Options { trust_domain: "other.test".into(), ..Options::default() };
    let other = Server::start(&mesh.scratch, "other", &elsewhere).await.unwrap();
    let me = mesh.seats.own_selector().unwrap();
    other.add_entry("spiffe://other.test/front", &[&me]).unwrap();
    let foreign = credential(&other, "spiffe://other.test/front").await;
    // Ours in name, signed by the other domain's authority: never under our name.
    allow(&mesh, &[&mesh.web_id, "spiffe://other.test/front"]);
    gets_in(&mesh, &foreign, false).await;

    let bundle = other.cli(&["bundle"]).unwrap();
    let pem = String::from_utf8(bundle.stdout).unwrap().replace('\n', "\n  ");
    let document = format!("kind: TrustDomain\ntrust_domain: other.test\nbundle: |\n  {pem}\n");
    mesh.server.write_documents("partners", &document).unwrap();
    gets_in(&mesh, &foreign, true).await;
    mesh.call(&[]).await.expect("our own still get in, under the other validator");

    // Known roots are not enough: only who is listed.
    other.add_entry("spiffe://other.test/stranger", &[&me]).unwrap();
    gets_in(&mesh, &credential(&other, "spiffe://other.test/stranger").await, false).await;

    allow(&mesh, &[&mesh.web_id]);
    gets_in(&mesh, &foreign, false).await;
    mesh.call(&[]).await.expect("our own still get in");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_another_trust_domain_get_in_under_the_roots_of_its_bundle_document() {
    let mesh = mesh().await;
    let _app = App::start("api", mesh.app).await.unwrap();
    let [root, other] = ["root", "other"].map(|name| Ca::new(name, Some("spiffe://partner.test")).unwrap());
    let front = "spiffe://partner.test/front";
    let [by_root, by_other] = [&root, &other].map(|ca| ca.issue(front, Duration::from_secs(3600)).unwrap());
    allow(&mesh, &[&mesh.web_id, front]);
    gets_in(&mesh, &by_root, false).await;

    let key = |ca: &Ca, r#use: &str| {
        let der = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
        json!({ "kty": "EC", "use": r#use, "x5c": [BASE64.encode(&der)] })
    };
    let publish = |keys: &[serde_json::Value]| {
        let bundle = serde_json::to_string_pretty(&json!({ "keys": keys, "spiffe_sequence": 1 })).unwrap();
        let bundle = bundle.replace('\n', "\n  ");
        let document = format!("kind: TrustDomain\ntrust_domain: partner.test\nbundle: |\n  {bundle}\n");
        mesh.server.write_documents("partners", &document).unwrap();
    };
    // A certificate beside a key of tokens vouches for no X.509-SVID.
    publish(&[key(&other, "jwt-svid"), key(&root, "x509-svid")]);
    gets_in(&mesh, &by_root, true).await;
    gets_in(&mesh, &by_other, false).await;
    mesh.call(&[]).await.expect("our own still get in");

    publish(&[key(&other, "x509-svid")]);
    gets_in(&mesh, &by_other, true).await;
    gets_in(&mesh, &by_root, false).await;
    let stats = mesh.api.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_the_crl_of_another_trust_domain_does_not_get_in() {
    let mesh = mesh().await;
    let _app = App::start("api", mesh.app).await.unwrap();
    let partner = Ca::new("partner", Some("spiffe://partner.test")).unwrap();
    let (front, back) = ("spiffe://partner.test/front", "spiffe://partner.test/back");
    let hour = Duration::from_secs(3600);
    let front_credential = partner.issue(front, hour).unwrap();
    let back_credential = partner.issue(back, hour).unwrap();
    let indented = |pem: &str| pem.replace('\n', "\n  ");
    let (roots, end) = (indented(&partner.pem().replace('\r', "")), SystemTime::now() + hour);
    let publish = |number, revoked: &[&Credential]| {
        let crl = indented(&partner.crl(number, revoked, end).unwrap());
        let document = format!(
            "kind: TrustDomain\ntrust_domain: partner.test\nbundle: |\n  {roots}\ncrls: |\n  {crl}\n"
        );
        mesh.server.write_documents("partners", &document).unwrap();
    };
    allow(&mesh, &[&mesh.web_id, front, back]);
    publish(1, &[]);
    gets_in(&mesh, &front_credential, true).await;
    gets_in(&mesh, &back_credential, true).await;

    publish(2, &[&front_credential]);
    gets_in(&mesh, &front_credential, false).await;
    gets_in(&mesh, &back_credential, true).await;
    mesh.call(&[]).await.expect("our own, who have no CRL, still get in");

    publish(3, &[&back_credential]);
    gets_in(&mesh, &back_credential, false).await;
    gets_in(&mesh, &front_credential, true).await;
    let stats = mesh.api.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
}
