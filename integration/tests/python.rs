//! Python: the SPIFFE library as it is on PyPI, and two JOSE implementations that judge our tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::Command;

use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::tools;
use serde_json::{Value, json};

#[path = "python/issued.rs"]
mod issued;
#[path = "python/jose.rs"]
mod jose;

const WEB: &str = "spiffe://example.org/web";

fn python(script: &str) -> Command {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let requirements = std::fs::read_to_string(home.join("requirements.txt")).unwrap();
    let mut python = tools::python_with("clients", &requirements).unwrap();
    python.arg(home.join(script));
    python
}

/// What a script printed, as JSON.
fn said(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_library_fetches_watches_and_validates() {
    let scratch = Scratch::new().unwrap();
    let options = Options { leaf_lifetime: Some("8s".into()), renew_at: Some(0.1), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
    server.add_entry(WEB, &[&ours]).unwrap();
    let socket = server.socket();
    let output =
        tokio::task::spawn_blocking(move || python("workload.py").arg(socket).arg("2").output().unwrap());
    let said = said(&output.await.unwrap());
    assert_eq!((&said["spiffe_id"], &said["jwt"], &said["judged"]), (&json!(WEB), &json!(WEB), &json!(WEB)));
    assert_eq!((&said["renewals"], &said["authorities"], &said["keys"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(said["audience"], json!(["reports"]));
    assert!(said["refusal"].as_str().unwrap().contains("another audience"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_over_the_c_core_is_told_once_the_server_has_a_name_for_it() {
    for (named, asks, works) in
        [("", "", false), ("", "broker.test", false), (", dns_names: [broker.test]", "broker.test", true)]
    {
        let scratch = Scratch::new().unwrap();
        let socket = scratch.dir("broker", None).unwrap().join("broker.sock");
        let allow = "spiffe://example.org/broker";
        let more = format!("broker: {{socket: {}, allow: ['{allow}']{named}}}\n", socket.display());
        let server =
            Server::start(&scratch, "server", &Options { more, ..Options::default() }).await.unwrap();
        let sleep = Path::new("/usr/bin/sleep").canonicalize().unwrap();
        server.add_entry(WEB, &[&format!("unix:path:{}", sleep.display())]).unwrap();
        let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
        server.add_entry(allow, &[&ours]).unwrap();
        let mut workload = Command::new(sleep).arg("600").spawn().unwrap();
        let mut broker = python("broker.py");
        broker.arg(server.socket()).arg(socket).arg(workload.id().to_string()).arg(asks);
        let output = tokio::task::spawn_blocking(move || broker.output().unwrap()).await.unwrap();
        workload.kill().unwrap();
        workload.wait().unwrap();
        let said = said(&output);
        if works {
            assert_eq!(said["has_web"], true, "{said}");
        } else {
            assert_eq!(said["code"], "UNAVAILABLE", "{said}");
        }
    }
}
