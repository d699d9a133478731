//! Go: the SPIFFE library as it is, WIT-SVIDs included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::Command;

use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::tools;
use serde_json::{Value, json};

const WEB: &str = "spiffe://example.org/web";

#[tokio::test(flavor = "multi_thread")]
async fn the_go_library_fetches_watches_and_validates() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
    let program = tools::go_program("client", &source).unwrap();
    let scratch = Scratch::new().unwrap();
    let options = Options {
        leaf_lifetime: Some("8s".into()),
        renew_at: Some(0.1),
        more: "workload_api: {wit_svids: true}\n".into(),
        ..Options::default()
    };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
    server.add_entry(WEB, &[&ours]).unwrap();
    let socket = server.socket();
    let ran =
        tokio::task::spawn_blocking(move || Command::new(program).arg(socket).arg("2").output().unwrap());
    let ran = ran.await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    for identity in ["spiffe_id", "jwt", "judged", "wit"] {
        assert_eq!(said[identity], WEB, "{identity}");
    }
    assert_eq!((&said["renewals"], &said["audience"]), (&json!(2), &json!(["reports"])));
    assert!(said["refusal"].as_str().unwrap().contains("another audience"), "{said}");
}
