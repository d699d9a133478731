//! The Rust client library of SPIFFE, as it is on crates.io, against the real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use integration::poll;
use integration::scratch::Scratch;
use integration::sds;
use integration::server::{Options, Server};
use spiffe::{TrustDomain, WorkloadApiClient, X509Source};

/// Past every wait here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const WEB: &str = "spiffe://example.org/web";
const ADMIN: &str = "spiffe://example.org/admin";

fn ours() -> String {
    format!("unix:uid:{}", rustix::process::getuid().as_raw())
}

fn endpoint(server: &Server) -> String {
    format!("unix:{}", server.socket().display())
}

async fn started(scratch: &Scratch, options: &Options) -> Server {
    let server = Server::start(scratch, "server", options).await.unwrap();
    server.add_entry(WEB, &[&ours()]).unwrap();
    server
}

/// What has an entry and its SVID: entries are read a moment after they are written.
async fn source(server: &Server) -> X509Source {
    let endpoint = endpoint(server);
    let building = X509Source::builder().endpoint(&endpoint).build();
    tokio::time::timeout(PATIENCE, building).await.expect("no SVID came").unwrap()
}

fn serial(source: &X509Source) -> Vec<u8> {
    source.svid().unwrap().cert_chain()[0].as_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn we_20_the_workload_api_is_served_beside_sds() {
    let scratch = Scratch::new().unwrap();
    let server = started(&scratch, &Options::default()).await;
    let source = source(&server).await;
    let svid = source.svid().unwrap();
    assert_eq!(svid.spiffe_id().to_string(), WEB);
    let domain = TrustDomain::new("example.org").unwrap();
    let bundle = source.try_bundle_for_trust_domain(&domain).unwrap();
    assert_eq!(bundle.authorities().len(), 1);
    // One identity, one certificate, whichever way it is asked for.
    let by_sds = sds::svid(&server.socket(), "default").await.unwrap();
    assert_eq!(by_sds.chain[0].as_ref(), svid.cert_chain()[0].as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_follows_renewals() {
    let scratch = Scratch::new().unwrap();
    let options = Options { leaf_lifetime: Some("8s".into()), renew_at: Some(0.1), ..Options::default() };
    let server = started(&scratch, &options).await;
    let source = source(&server).await;
    let mut seen = vec![serial(&source)];
    let mut updates = source.updated();
    for _ in 0..3 {
        tokio::time::timeout(PATIENCE, updates.changed()).await.expect("no renewal came").unwrap();
        let now = serial(&source);
        assert!(!seen.contains(&now), "an update is another certificate");
        seen.push(now);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_identity_comes_on_the_open_stream() {
    let scratch = Scratch::new().unwrap();
    let server = started(&scratch, &Options::default()).await;
    let source = source(&server).await;
    server
        .write_documents(
            "second",
            &format!("kind: Workload\nspiffe_id: {ADMIN}\nselectors: [{}]\nhint: admin\n", ours()),
        )
        .unwrap();
    poll::holds("the second identity", PATIENCE, async || source.x509_context().unwrap().svids().len() == 2)
        .await
        .unwrap();
    let context = source.x509_context().unwrap();
    let first = context.default_svid().unwrap();
    assert_eq!(first.spiffe_id().to_string(), ADMIN, "the default identity is the first by SPIFFE ID");
    assert_eq!(first.hint(), Some("admin"));
}

/// The SPIFFE IDs of what the source has, in the order of the response.
fn ids(source: &X509Source) -> Vec<String> {
    source.x509_context().unwrap().svids().iter().map(|svid| svid.spiffe_id().to_string()).collect()
}

async fn holds(source: &X509Source, wanted: &[&str]) {
    let what = format!("{wanted:?} and nothing else");
    poll::holds(&what, PATIENCE, async || ids(source) == wanted).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wa_12_each_identity_is_there_once() {
    let scratch = Scratch::new().unwrap();
    let server = started(&scratch, &Options::default()).await;
    let source = source(&server).await;
    let group = format!("unix:gid:{}", rustix::process::getgid().as_raw());
    // More entries of one identity: for others of our selectors, with a hint and without, in one file and in another.
    let entry = |id: &str, more: &str| format!("---\nkind: Workload\nspiffe_id: {id}\n{more}\n");
    let again = entry(WEB, &format!("selectors: ['{group}']\nhint: again"))
        + &entry(WEB, &format!("selectors: ['{group}', '{}']", ours()));
    server.write_documents("again", &again).unwrap();
    server.write_documents("admin", &entry(ADMIN, &format!("selectors: ['{group}']"))).unwrap();
    holds(&source, &[ADMIN, WEB]).await;
    let listed = server.cli(&["entries", "-o", "json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let of_web = listed["entries"].as_array().unwrap().iter().filter(|entry| entry["spiffe_id"] == WEB);
    assert_eq!(of_web.count(), 3, "all of them were read: {listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wa_42_the_default_identity_is_the_same_over_renewals_and_restarts() {
    const API: &str = "spiffe://example.org/api";
    let scratch = Scratch::new().unwrap();
    let options = Options { leaf_lifetime: Some("60s".into()), renew_at: Some(0.02), ..Options::default() };
    let mut server = started(&scratch, &options).await;
    let source = source(&server).await;
    let entry = |id: &str| format!("---\nkind: Workload\nspiffe_id: {id}\nselectors: ['{}']\n", ours());
    // Neither in the order of files, nor in that of documents, nor in that in which they came.
    server.write_documents("z", &(entry(API) + &entry(ADMIN))).unwrap();
    let order = [ADMIN, API, WEB];
    holds(&source, &order).await;
    for restarted in [false, true] {
        if restarted {
            server.kill().unwrap();
            server.write_documents("a", &(entry(WEB) + &entry(API))).unwrap();
            server.restart().await.unwrap();
        }
        // Each of them is renewed at a moment of its own.
        let leafs = || {
            source
                .x509_context()
                .unwrap()
                .svids()
                .iter()
                .map(|svid| svid.cert_chain()[0].as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        let (before, mut updates) = (leafs(), source.updated());
        while leafs().iter().any(|leaf| before.contains(leaf)) {
            tokio::time::timeout(PATIENCE, updates.changed()).await.expect("no renewal came").unwrap();
            assert_eq!(ids(&source), order);
            assert_eq!(source.svid().unwrap().spiffe_id().to_string(), ADMIN);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_outlives_a_restart_of_the_server() {
    let scratch = Scratch::new().unwrap();
    let mut server = started(&scratch, &Options::default()).await;
    let source = source(&server).await;
    let before = serial(&source);
    server.kill().unwrap();
    server.restart().await.unwrap();
    server
        .write_documents("second", &format!("kind: Workload\nspiffe_id: {ADMIN}\nselectors: [{}]\n", ours()))
        .unwrap();
    poll::holds("the source is back", PATIENCE, async || source.x509_context().unwrap().svids().len() == 2)
        .await
        .unwrap();
    let context = source.x509_context().unwrap();
    let web = context.svids().iter().find(|svid| svid.spiffe_id().to_string() == WEB).unwrap().clone();
    assert_eq!(web.cert_chain()[0].as_bytes(), before, "and its SVID is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn we_14_who_calls_is_what_the_kernel_says() {
    let scratch = Scratch::new().unwrap();
    let server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
    server.add_entry(WEB, &["unix:uid:4242"]).unwrap();
    let client = WorkloadApiClient::connect_to(endpoint(&server)).await.unwrap();
    for refused in [
        client.fetch_x509_context().await.map(drop).unwrap_err(),
        client.fetch_x509_bundles().await.map(drop).unwrap_err(),
    ] {
        assert!(format!("{refused:?}").contains("PermissionDenied"), "{refused:?}");
    }
    // The advice of the refusal works: no entry matching is a finding.
    let explained = server.cli(&["explain", "pid", &std::process::id().to_string()]).unwrap();
    assert_eq!(explained.status.code(), Some(1), "{explained:?}");
    assert!(String::from_utf8_lossy(&explained.stdout).contains("matches no entry"), "{explained:?}");
}
