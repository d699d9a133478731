//! Node.js: gRPC as it is in the npm registry, and the lines that docs/workload-api.md shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::tools;
use serde_json::{Value, json};

const WEB: &str = "spiffe://example.org/web";
const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[tokio::test(flavor = "multi_thread")]
async fn a_program_for_node_fetches_watches_and_validates() {
    let source = Path::new(HERE).join("clients/node");
    let mut program = tools::node_program("client", &source, "client.js").unwrap();
    let scratch = Scratch::new().unwrap();
    let options = Options { leaf_lifetime: Some("8s".into()), renew_at: Some(0.1), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
    server.add_entry(WEB, &[&ours]).unwrap();
    program.arg("2").env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", server.socket().display()));
    program.env("WORKLOAD_PROTO", Path::new(HERE).join("../sds-server/proto/workload.proto"));
    let ran = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    for identity in ["spiffe_id", "judged"] {
        assert_eq!(said[identity], WEB, "{identity}");
    }
    assert_eq!(said["peer"], format!("URI:{WEB}"));
    assert_eq!(said["renewals"], json!(2));
    assert!(said["refusal"].as_str().unwrap().contains("another audience"), "{said}");
}

#[test]
fn what_the_docs_show_is_what_is_run() {
    let docs = std::fs::read_to_string(Path::new(HERE).join("../docs/workload-api.md")).unwrap();
    let (_, shown) = docs.split_once("```js\n").expect("a program for Node.js");
    let (shown, _) = shown.split_once("```").unwrap();
    let run = std::fs::read_to_string(Path::new(HERE).join("clients/node/spiffe.js")).unwrap();
    assert!(run.ends_with(shown), "docs/workload-api.md shows other lines than clients/node/spiffe.js has");
}
