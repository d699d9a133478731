//! Two trust domains: each server is given the other's bundle document, as the other printed it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::{poll, sds};
use serde_json::Value;
use spiffe::{TrustDomain, WorkloadApiClient};

const SOON: Duration = Duration::from_secs(10);
const OURS: &str = "spiffe://example.org/web";
const THEIRS: &str = "spiffe://partner.test/web";

async fn client(server: &Server) -> WorkloadApiClient {
    WorkloadApiClient::connect_to(format!("unix:{}", server.socket().display())).await.unwrap()
}

/// What `countersign bundle -o spiffe` prints, and what it says.
fn printed(server: &Server) -> (String, Value) {
    let text = String::from_utf8(server.cli(&["bundle", "-o", "spiffe"]).unwrap().stdout).unwrap();
    let document = serde_json::from_str(&text).unwrap();
    (text, document)
}

fn hand_over(server: &Server, document: &str) {
    let bundle = document.replace('\n', "\n  ");
    let document = format!("kind: TrustDomain\ntrust_domain: partner.test\nbundle: |\n  {bundle}\n");
    server.write_documents("partner", &document).unwrap();
}

async fn start(scratch: &Scratch, trust_domain: &str, id: &str) -> Server {
    let options = Options { trust_domain: trust_domain.into(), ..Options::default() };
    let server = Server::start(scratch, trust_domain, &options).await.unwrap();
    server.add_entry(id, &[&Seats::here().own_selector().unwrap()]).unwrap();
    poll::holds("it has an identity", SOON, async || client(&server).await.fetch_x509_svid().await.is_ok())
        .await
        .unwrap();
    server
}

/// Whether `server` gives its callers X.509 roots of the partner.
async fn knows_roots(server: &Server, partner: &TrustDomain) -> bool {
    client(server).await.fetch_x509_bundles().await.unwrap().get(partner).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn tb_02_a_printed_bundle_document_is_all_that_a_partner_needs() {
    let scratch = Scratch::new().unwrap();
    let mut partner = start(&scratch, "partner.test", THEIRS).await;
    let ours = start(&scratch, "example.org", OURS).await;
    let token = client(&partner).await.fetch_jwt_token(["billing"], None).await.unwrap();
    let judge = async || client(&ours).await.validate_jwt_token("billing", &token).await;
    judge().await.unwrap_err();

    let (text, document) = printed(&partner);
    hand_over(&ours, &text);
    poll::holds("their tokens are taken", SOON, async || judge().await.is_ok()).await.unwrap();
    let domain = TrustDomain::new("partner.test").unwrap();
    let theirs = client(&partner).await.fetch_x509_bundles().await.unwrap();
    let known = client(&ours).await.fetch_x509_bundles().await.unwrap();
    assert_eq!(known.get(&domain).unwrap().authorities(), theirs.get(&domain).unwrap().authorities());
    let secret = "spiffe://partner.test";
    sds::secret(&ours.socket(), secret).await.expect("Envoy has them too");

    // The sequence is that of the contents, over a restart too.
    assert!(document["spiffe_sequence"].as_u64().unwrap() > 0);
    assert_eq!(document["spiffe_refresh_hint"], 300);
    partner.stop().await.unwrap();
    partner.restart().await.unwrap();
    assert_eq!(printed(&partner).1, document);
}

#[tokio::test(flavor = "multi_thread")]
async fn tb_08_under_an_empty_bundle_document_nobody_is_trusted() {
    let scratch = Scratch::new().unwrap();
    let partner = start(&scratch, "partner.test", THEIRS).await;
    let ours = start(&scratch, "example.org", OURS).await;
    let domain = TrustDomain::new("partner.test").unwrap();
    let token = client(&partner).await.fetch_jwt_token(["billing"], None).await.unwrap();
    let judge = async || client(&ours).await.validate_jwt_token("billing", &token).await;
    let (text, mut document) = printed(&partner);
    hand_over(&ours, &text);
    poll::holds("they are trusted", SOON, async || judge().await.is_ok()).await.unwrap();
    assert!(knows_roots(&ours, &domain).await);
    let all = async || sds::secret(&ours.socket(), "ALL").await.unwrap();
    let with = all().await;

    // Keys of tokens alone: a bundle like any other, but for X.509.
    let keys = document["keys"].as_array_mut().unwrap();
    keys.retain(|key| key["use"] != "x509-svid");
    hand_over(&ours, &document.to_string());
    poll::holds("their roots are gone", SOON, async || !knows_roots(&ours, &domain).await).await.unwrap();
    judge().await.expect("their tokens are good");
    assert_ne!(all().await, with, "Envoy's validator knows them no more");
    let status = String::from_utf8(ours.cli(&["status"]).unwrap().stdout).unwrap();
    assert!(status.contains("the bundle of partner.test has no X.509 root"), "{status}");

    let audit = |kind| String::from_utf8(ours.cli(&["audit", "--kind", kind]).unwrap().stdout).unwrap();
    assert!(audit("registration").contains("registration.changed"), "{}", audit("registration"));
    assert!(audit("svid.issued").contains(OURS));

    hand_over(&ours, r#"{"keys":[],"spiffe_sequence":1000000}"#);
    poll::holds("nor their tokens", SOON, async || judge().await.is_err()).await.unwrap();
    // And back.
    hand_over(&ours, &text);
    poll::holds("they are trusted again", SOON, async || judge().await.is_ok()).await.unwrap();
    assert!(knows_roots(&ours, &domain).await);
    assert_eq!(all().await, with);
}
