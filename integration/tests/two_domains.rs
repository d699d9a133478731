//! A service calls one of another trust domain, with the bootstraps that the command line writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use integration::app::{App, Seen};
use integration::envoy::Envoy;
use integration::mesh::api_entry;
use integration::scratch::Scratch;
use integration::seats::{Seat, Seats};
use integration::server::{Options, Server};
use integration::{http, poll, ports};

const WEB: &str = "spiffe://example.org/web";
const API: &str = "spiffe://partner.test/api";
const SOON: Duration = Duration::from_secs(10);

async fn server(scratch: &Scratch, trust_domain: &str) -> Server {
    let options = Options { trust_domain: trust_domain.into(), ..Options::default() };
    Server::start(scratch, trust_domain, &options).await.unwrap()
}

fn trusts(server: &Server, other: &Server, trust_domain: &str) {
    let printed = String::from_utf8(other.cli(&["bundle", "-o", "spiffe"]).unwrap().stdout).unwrap();
    let bundle = printed.replace('\n', "\n  ");
    let document = format!("kind: TrustDomain\ntrust_domain: {trust_domain}\nbundle: |\n  {bundle}\n");
    server.write_documents("other", &document).unwrap();
}

/// An Envoy with the bootstrap that `countersign envoy bootstrap` writes with `flags`.
async fn envoy(scratch: &Scratch, (server, seat): (&Server, &Seat), name: &str, flags: &[&str]) -> Envoy {
    let (socket, admin) = (server.socket(), Envoy::admin_socket(scratch, name));
    let mut command = Command::new(Server::program().unwrap());
    command.args(["envoy", "bootstrap", "--kind", "sidecar", "--service", name]).args(flags);
    let ran = command.arg("--socket").arg(socket).arg("--admin").arg(admin).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    let mut envoy = Envoy::start(scratch, name, seat, &text).unwrap();
    envoy.live().await.unwrap();
    envoy
}

/// What the called program saw of a call, if it was answered by it.
async fn seen(calls: SocketAddr) -> Option<Seen> {
    let answer = http::get_tcp(calls, "/", &[]).await.ok()?;
    answer.status().is_success().then(|| Seen::parse(answer.body()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_another_trust_domain_is_called_by_its_id() {
    let scratch = Scratch::new().unwrap();
    let (ours, theirs) = (server(&scratch, "example.org").await, server(&scratch, "partner.test").await);
    let seats = Seats::here();
    let (web_seat, api_seat) = (seats.take(&scratch, 0).unwrap(), seats.take(&scratch, 1).unwrap());
    ours.add_entry(WEB, &[&web_seat.selector]).unwrap();
    theirs.write_documents("api", &api_entry(API, &api_seat, &[WEB])).unwrap();
    trusts(&theirs, &ours, "example.org");

    let [calls, inbound, app, unused] = std::array::from_fn(|_| ports::free().unwrap());
    let _app = App::start("api", app).await.unwrap();
    let [out, to, at, none] = [calls, inbound, app, unused].map(|address| address.to_string());
    let flags = ["--trust-domain", "partner.test", "--peers-from-entries", "--inbound", &to, "--app", &at];
    let flags = [&flags[..], &["--upstream-domain", "--outbound", &none]].concat();
    let api = async |name: &str| envoy(&scratch, (&theirs, &api_seat), name, &flags).await;
    let first = api("api").await;
    let web = async |id: &str, name: &str, out: &str| {
        let inbound = ports::free().unwrap().to_string();
        let flags = ["--trust-domain", "example.org", "--upstream-id", id, "--upstream", &to];
        let flags = [&flags[..], &["--outbound", out, "--inbound", &inbound]].concat();
        envoy(&scratch, (&ours, &web_seat), name, &flags).await
    };
    let _web = web(API, "web", &out).await;

    // Before we trust them nobody there proves to be it.
    assert!(seen(calls).await.is_none());
    trusts(&ours, &theirs, "partner.test");
    poll::holds("the call gets there", SOON, async || seen(calls).await.is_some()).await.unwrap();
    assert_eq!(seen(calls).await.unwrap().peer, [WEB]);

    // Another one of theirs is not who answers there.
    let wrong = ports::free().unwrap();
    let _wrong = web("spiffe://partner.test/other", "wrong", &wrong.to_string()).await;
    assert!(seen(wrong).await.is_none());
    assert!(seen(calls).await.is_some());

    // When their bundle is emptied no new connection trusts them: those that are open stay, and end with their Envoy.
    let empty = "kind: TrustDomain\ntrust_domain: partner.test\nbundle: '{\"keys\":[]}'\n";
    ours.write_documents("other", empty).unwrap();
    poll::holds("it is read", SOON, async || {
        String::from_utf8_lossy(&ours.cli(&["status"]).unwrap().stdout).contains("no X.509 root")
    })
    .await
    .unwrap();
    drop(first);
    let _second = api("again").await;
    for _ in 0..10 {
        assert!(seen(calls).await.is_none());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    trusts(&ours, &theirs, "partner.test");
    poll::holds("they are trusted again", SOON, async || seen(calls).await.is_some()).await.unwrap();
}
