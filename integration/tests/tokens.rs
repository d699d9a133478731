//! JWT-SVIDs and WIT-SVIDs of the real server, fetched, followed and judged by others' implementations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use integration::poll;
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::workload::{next, stream};
use sds_server::proto::workload::{WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse};
use serde_json::Value;
use spiffe::{JwtSource, JwtSvid, WorkloadApiClient};

const PATIENCE: Duration = Duration::from_secs(20);
const WEB: &str = "spiffe://example.org/web";
const ADMIN: &str = "spiffe://example.org/admin";

async fn served(scratch: &Scratch, more: &str) -> Server {
    let options = Options { more: more.into(), ..Options::default() };
    let server = Server::start(scratch, "server", &options).await.unwrap();
    let ours = Seats::here().own_selector().unwrap();
    server.add_entry(WEB, &[&ours]).unwrap();
    let client = client(&server).await;
    poll::holds("an identity", PATIENCE, async || client.fetch_x509_svid().await.is_ok()).await.unwrap();
    server
}

async fn client(server: &Server) -> WorkloadApiClient {
    WorkloadApiClient::connect_to(format!("unix:{}", server.socket().display())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_library_fetches_and_verifies_jwt_svids() {
    let scratch = Scratch::new().unwrap();
    let server = served(&scratch, "").await;
    let source = JwtSource::builder().endpoint(format!("unix:{}", server.socket().display())).build();
    let source = tokio::time::timeout(PATIENCE, source).await.expect("no bundle came").unwrap();
    let svid = source.fetch_jwt_svid(["reports"]).await.unwrap();
    assert_eq!(svid.spiffe_id().to_string(), WEB);
    // Offline, by the library's own implementation, under the bundles that it follows.
    let bundles = source.bundle_set().unwrap();
    JwtSvid::parse_and_validate(svid.token(), &*bundles, &["reports"]).unwrap();
    JwtSvid::parse_and_validate(svid.token(), &*bundles, &["billing"]).unwrap_err();
    // And by the server.
    let client = client(&server).await;
    client.validate_jwt_token("reports", svid.token()).await.unwrap();
    client.validate_jwt_token("billing", svid.token()).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_outlive_a_restart_of_the_server() {
    let scratch = Scratch::new().unwrap();
    let mut server = served(&scratch, "").await;
    let before = client(&server).await.fetch_jwt_svid(["reports"], None).await.unwrap();
    server.kill().unwrap();
    server.restart().await.unwrap();
    let client = client(&server).await;
    poll::holds("served again", PATIENCE, async || client.fetch_x509_svid().await.is_ok()).await.unwrap();
    client.validate_jwt_token("reports", before.token()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_is_withdrawn_gets_no_token() {
    let scratch = Scratch::new().unwrap();
    let server = served(&scratch, "").await;
    let ours = Seats::here().own_selector().unwrap();
    let text = format!("kind: Workload\nspiffe_id: {ADMIN}\nselectors: [{ours}]\n");
    server.write_documents("admin", &text).unwrap();
    let (client, id) = (client(&server).await, ADMIN.try_into().unwrap());
    let fetch = async || client.fetch_jwt_svid(["reports"], Some(&id)).await;
    poll::holds("a second identity", PATIENCE, async || fetch().await.is_ok()).await.unwrap();
    server.remove_documents("admin").unwrap();
    poll::holds("it is gone", PATIENCE, async || fetch().await.is_err()).await.unwrap();
    let refused = format!("{:?}", fetch().await.unwrap_err());
    assert!(refused.contains("PermissionDenied"), "{refused}");
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

/// The key that comes with a token is the one that the token names.
fn assert_belong_together(token: &str, jwk: &str) {
    let (claims, jwk): (Value, Value) = (claims(token), serde_json::from_str(jwk).unwrap());
    let named = &claims["cnf"]["jwk"];
    for member in ["kty", "crv", "x", "y", "alg"] {
        assert_eq!(jwk[member], named[member], "{member}");
    }
    let octets = |member: &str| BASE64URL_NOPAD.decode(jwk[member].as_str().unwrap().as_bytes()).unwrap();
    let point = [&[4][..], &octets("x"), &octets("y")].concat();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, &octets("d"), &point).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wa_36_wit_svids_come_for_every_identity_and_are_renewed() {
    let scratch = Scratch::new().unwrap();
    let server = served(&scratch, "workload_api: {wit_svids: true}\nauthority: {wit_lifetime: 6s}\n").await;
    let mut all = stream::<_, WitsvidResponse>(&server.socket(), "FetchWITSVID", WitsvidRequest::default())
        .await
        .unwrap();
    let first = next(&mut all).await.unwrap();
    assert_eq!(first.svids.len(), 1);
    assert_belong_together(&first.svids[0].wit_svid, &first.svids[0].wit_svid_key);
    let ours = Seats::here().own_selector().unwrap();
    let text = format!("kind: Workload\nspiffe_id: {ADMIN}\nselectors: [{ours}]\nhint: admin\n");
    server.write_documents("admin", &text).unwrap();
    let mut both = next(&mut all).await.unwrap();
    while both.svids.len() < 2 {
        both = next(&mut all).await.unwrap(); // renewed meanwhile
    }
    let said: Vec<_> = both.svids.iter().map(|svid| (svid.spiffe_id.as_str(), svid.hint.as_str())).collect();
    assert_eq!(said, [(ADMIN, "admin"), (WEB, "")]);
    for svid in &both.svids {
        assert_eq!(claims(&svid.wit_svid)["sub"], svid.spiffe_id.as_str());
        assert_belong_together(&svid.wit_svid, &svid.wit_svid_key);
    }
    let only = WitsvidRequest { spiffe_id: WEB.into() };
    let mut one = stream::<_, WitsvidResponse>(&server.socket(), "FetchWITSVID", only).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let response = next(&mut one).await.unwrap();
        assert_eq!(response.svids.len(), 1);
        assert!(!seen.contains(&response.svids[0].wit_svid), "another each time");
        seen.push(response.svids[0].wit_svid.clone());
    }
    let mut bundles =
        stream::<_, WitBundlesResponse>(&server.socket(), "FetchWITBundles", WitBundlesRequest {})
            .await
            .unwrap();
    let set: Value =
        serde_json::from_str(&next(&mut bundles).await.unwrap().bundles["spiffe://example.org"]).unwrap();
    let header = seen[0].split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(header.as_bytes()).unwrap()).unwrap();
    assert_eq!(set["keys"][0]["kid"], header["kid"]);
}
