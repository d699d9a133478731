//! The admin socket itself, and the probes on the loopback.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use sds_server::admin::{AdminServer, MetricsServer};
use sds_server::runtime::drain;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UnixStream};

use super::fixture::{Fixture, exchange, serve};

#[tokio::test]
async fn the_admin_socket_is_private_and_bounded() {
    let fixture = serve().await;
    let found = std::fs::metadata(fixture.dir.path().join("admin.sock")).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);

    let post = |body: &str| {
        format!(
            "POST /v1/entries/rescan HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let check = async |request: String, expected: &str| {
        let answer = fixture.raw(&request).await;
        assert!(answer.starts_with(expected), "{answer}");
    };
    check(post("{}"), "HTTP/1.1 200").await;
    check(post("{\"prun\": true}"), "HTTP/1.1 422").await;
    check(post(&format!("{{\"prune\": {}}}", " ".repeat(100_000))), "HTTP/1.1 413").await;
    check("GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "HTTP/1.1 404").await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_connection_that_asks_nothing() {
    let Fixture { sources, .. } = serve().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let (drainer, drain) = drain::channel();
    let server = tokio::spawn(AdminServer::bind(&path, &sources).unwrap().run(drain));
    let mut idle = UnixStream::connect(&path).await.unwrap();
    // Connections are accepted in their order: with this answer the idle one is among those that are served.
    let mut asking = UnixStream::connect(&path).await.unwrap();
    exchange(&mut asking, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    drainer.begin();
    // The time that a head may take is 5 s.
    tokio::time::timeout(Duration::from_secs(3), server).await.expect("it ends at once").unwrap().unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn loopback_serves_the_probes_and_nothing_else() {
    let fixture = serve().await;
    let server = MetricsServer::bind("127.0.0.1:0".parse().unwrap(), &fixture.sources).await.unwrap();
    let address = server.address().unwrap();
    let (_drainer, drain) = drain::channel();
    tokio::spawn(server.run(drain));
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        exchange(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await
    };
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").await.contains("countersign_build_info"));
    assert!(get("/v1/status").await.starts_with("HTTP/1.1 404"));
    let guard = fixture.readiness.guard("store");
    let answer = get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("waiting for store\n"), "{answer}");
    drop(guard);
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
}
