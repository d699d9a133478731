//! Envoy and a program with one identity on one server: they hold one certificate, and go to the next together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use data_encoding::HEXLOWER;
use integration::app::App;
use integration::mesh::{API_NAME, Mesh, Plan};
use integration::process::Process;
use integration::{poll, seats, stranger};
use spiffe::X509Source;
use spiffe_bridge::x509::inspect;

const SOON: Duration = Duration::from_secs(20);
const SOCKET: &str = "COUNTERSIGN_TEST_SOCKET";

async fn source(socket: &Path) -> X509Source {
    let endpoint = format!("unix:{}", socket.display());
    let source = X509Source::builder().endpoint(&endpoint).build();
    tokio::time::timeout(SOON, source).await.expect("no SVID came").unwrap()
}

/// The certificate that a program holds.
fn held(source: &X509Source) -> Vec<u8> {
    source.svid().unwrap().cert_chain()[0].as_bytes().to_vec()
}

/// Not a test of its own: a program that says which certificate it holds.
#[tokio::test]
async fn helper_program() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let source = source(Path::new(&socket)).await;
    let mut updates = source.updated();
    loop {
        println!("\nholds {}", HEXLOWER.encode(&held(&source)));
        updates.changed().await.unwrap();
    }
}

/// One entry of `api`'s identity for each selector.
fn entries(mesh: &Mesh, selectors: &[&str], names: &[&str]) {
    let (id, peer, names) = (&mesh.api_id, &mesh.web_id, names.join(", "));
    let entry = |selector: &&str| {
        format!(
            "kind: Workload\nspiffe_id: {id}\nselectors: ['{selector}']\ndns_names: [{names}]\npeers: [{peer}]\n"
        )
    };
    let all: Vec<_> = selectors.iter().map(entry).collect();
    mesh.server.write_documents("api", &all.join("---\n")).unwrap();
}

/// Changes the entries again and again: after each, Envoy shows in handshakes what the program holds, and that is as they
/// say.
async fn check(mesh: &Mesh, selectors: &[&str], held: impl Fn() -> Option<Vec<u8>>) {
    for names in [[API_NAME, "one.mesh.test"], [API_NAME, "two.mesh.test"], [API_NAME, "three.mesh.test"]] {
        entries(mesh, selectors, &names);
        let is_new = async || {
            let (shown, held) = (stranger::shown(mesh.inbound).await.ok()?, held()?);
            let leaf = inspect::leaf(&shown[0]).unwrap();
            assert_eq!(leaf.uris, std::slice::from_ref(&mesh.api_id));
            (leaf.dns_names == names && shown[0].as_ref() == held).then_some(())
        };
        poll::until("they hold one certificate, the new one", SOON, is_new).await.unwrap();
        mesh.call(&[]).await.expect("callers take it");
    }
    assert_eq!(mesh.api.stats().await.unwrap().sum("sds.", ".update_rejected"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_and_a_program_with_an_entry_each_hold_one_certificate_and_follow_its_changes() {
    let mesh = Mesh::start(&Plan::default()).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    let selectors = [&*mesh.api_seat.selector, &mesh.seats.own_selector().unwrap()];
    entries(&mesh, &selectors, &[API_NAME]);
    let source = source(&mesh.server.socket()).await;
    check(&mesh, &selectors, || Some(held(&source))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_envoys_user_holds_envoys_certificate_by_the_same_entry() {
    let mesh = Mesh::start(&Plan::default()).await.unwrap();
    let Some(user) = mesh.api_seat.uid else {
        return; // there are no other users without root; CI runs as root
    };
    let _app = App::start("api", mesh.app).await.unwrap();
    let program = seats::runnable(&mesh.scratch, "program", &std::env::current_exe().unwrap()).unwrap();
    let mut command = Command::new(program);
    command.args(["helper_program", "--exact", "--nocapture"]).env(SOCKET, mesh.server.socket());
    let log = mesh.scratch.path().join("program.log");
    let program = Process::spawn("program", command, Some(user), &log).unwrap();
    let held = || {
        let said = program.output();
        let last = said.lines().filter_map(|line| line.strip_prefix("holds ")).next_back()?;
        HEXLOWER.decode(last.as_bytes()).ok()
    };
    check(&mesh, &[&mesh.api_seat.selector], held).await;
}
