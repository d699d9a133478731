//! Go: the SPIFFE library as it is, WIT-SVIDs and the messages of the Broker API included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use integration::process::Process;
use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::tools;
use serde_json::{Value, json};

const WEB: &str = "spiffe://example.org/web";

fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_library_fetches_watches_and_validates() {
    let program = tools::go_program("client", &client("")).unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_in_go_is_told_of_a_process_until_it_ends() {
    let program = tools::go_program("broker", &client("broker")).unwrap();
    let scratch = Scratch::new().unwrap();
    let socket = scratch.dir("broker", None).unwrap().join("broker.sock");
    let more = format!("broker: {{socket: {}, allow: [spiffe://example.org/broker]}}\n", socket.display());
    let server = Server::start(&scratch, "server", &Options { more, ..Options::default() }).await.unwrap();
    let sleep = Path::new("/bin/sleep").canonicalize().unwrap();
    let by_path = |path: &Path| format!("unix:path:{}", path.canonicalize().unwrap().display());
    server.add_entry("spiffe://example.org/broker", &[&by_path(&program)]).unwrap();
    server.add_entry(WEB, &[&by_path(&sleep)]).unwrap();
    let mut command = Command::new(sleep);
    command.arg("600");
    let log = scratch.path().join("workload.log");
    let mut workload = Process::spawn("workload", command, None, &log).unwrap();
    let (api, pid) = (server.socket(), workload.id());
    let said = tokio::task::spawn_blocking(move || {
        let mut broker = Command::new(program);
        broker.arg(api).arg(socket).arg(pid.to_string());
        let mut broker = broker.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(broker.stdout.take().unwrap()).lines();
        let mut line = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
        let first = line();
        workload.kill().unwrap();
        let said = (first, line());
        assert!(broker.wait().unwrap().success());
        said
    });
    let (told, ended) = said.await.unwrap();
    for identity in ["spiffe_id", "jwt"] {
        assert_eq!(told[identity], WEB, "{told}");
    }
    assert_eq!((&told["broker"], &told["bundles"]), (&json!("spiffe://example.org/broker"), &json!(1)));
    assert_eq!(ended["ended"], "NotFound", "{ended}");
    assert_eq!(ended["reason"], "spiffe.io/WORKLOAD_NOT_FOUND", "{ended}");
}
