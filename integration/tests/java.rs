//! Java: the SPIFFE library as it is in the Maven repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::tools;
use serde_json::{Value, json};

const WEB: &str = "spiffe://example.org/web";

#[tokio::test(flavor = "multi_thread")]
async fn the_java_library_fetches_watches_and_validates() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/java");
    let mut program = tools::java_program("client", &source, "Client").unwrap();
    let scratch = Scratch::new().unwrap();
    let options = Options { leaf_lifetime: Some("8s".into()), renew_at: Some(0.1), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
    server.add_entry(WEB, &[&ours]).unwrap();
    program.arg(server.socket()).arg("2");
    let ran = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    for identity in ["spiffe_id", "jwt", "judged"] {
        assert_eq!(said[identity], WEB, "{identity}");
    }
    assert_eq!(said["renewals"], json!(2));
}
