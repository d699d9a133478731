//! `k8s:` selectors: real containers in cgroups as kubelet makes them, and a list of pods in the form that kubelet
//! writes, over TLS. No kubelet: that one's own list is tried by `kube-check`, and is in the attestor's tests. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use integration::podman::{Container, Podman};
use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::{poll, sds};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const WEB: &str = "spiffe://example.org/web";
const API: &str = "spiffe://example.org/api";
const SOCKET: &str = "COUNTERSIGN_TEST_SOCKET";
const PATIENCE: Duration = Duration::from_secs(60);
const POD: &str = "0f2ad4ef-68b5-4b3f-8a63-0ec9a39e2a1c";
const TOKEN: &str = "a-token-of-a-service-account";

/// Not a test of its own: a caller that says of each name when it has it and when it lacks it.
#[tokio::test]
async fn helper_program() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    let socket = PathBuf::from(socket);
    let ended = sds::follow(&socket, &[WEB, API], |name, has| {
        println!("{} {name}", if has { "has" } else { "lacks" });
    });
    println!("ended: {:#}", ended.await.unwrap_err());
    std::future::pending::<()>().await;
}

/// What the list of pods has of one: label `app`, and the container.
type Listed = Arc<Mutex<Option<(String, String)>>>;

fn list(listed: &Listed) -> String {
    let pods: Vec<_> = listed.lock().unwrap().iter().map(pod).collect();
    serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods }).to_string()
}

fn pod((app, container): &(String, String)) -> serde_json::Value {
    serde_json::json!({
        "metadata": { "name": "web-0", "namespace": "shop", "uid": POD, "labels": { "app": app } },
        "spec": { "serviceAccountName": "web", "nodeName": "n1", "containers": [{ "name": "main" }] },
        "status": { "phase": "Running", "containerStatuses": [{
            "name": "main", "image": "web:1", "imageID": "sha256:00", "containerID": format!("cri-o://{container}"),
        }] },
    })
}

/// Answers `GET /pods` with the list to those who have the token, and writes its CA to `ca_file`.
async fn kubelet(listed: Listed, ca_file: &std::path::Path, asked: Arc<AtomicU32>) -> SocketAddr {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "the cluster's");
    fs::write(ca_file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
            asked.fetch_add(1, Ordering::SeqCst);
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let allowed = head.contains(&format!("authorization: bearer {TOKEN}\r\n"));
            let (status, body) = match (allowed, head.starts_with("get /pods ")) {
                (true, true) => ("200 OK", list(&listed)),
                (false, _) => ("401 Unauthorized", String::new()),
                _ => ("404 Not Found", String::new()),
            };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

struct Bench {
    server: Server,
    podman: Podman,
    listed: Listed,
    token: PathBuf,
    ca: PathBuf,
    /// Requests that the kubelet has read.
    asked: Arc<AtomicU32>,
    _scratch: Scratch,
}

async fn bench() -> Bench {
    let scratch = Scratch::new().unwrap();
    let podman = Podman::start(&scratch).await.unwrap();
    let (ca, token) = (scratch.path().join("ca.crt"), scratch.path().join("token"));
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let listed = Listed::default();
    let asked = Arc::new(AtomicU32::new(0));
    let address = kubelet(listed.clone(), &ca, asked.clone()).await;
    let more = format!(
        "attestors:\n  kubernetes:\n    url: https://{address}/pods\n    token_file: {}\n    ca_file: {}\n    refresh: 1s\n",
        token.display(),
        ca.display()
    );
    let server = Server::start(&scratch, "server", &Options { more, ..Options::default() }).await.unwrap();
    let common = ["k8s:ns:shop", "k8s:sa:web", "k8s:container-name:main"];
    server.add_entry(WEB, &[&common[..], &["k8s:pod-label:app:web"]].concat()).unwrap();
    server.add_entry(API, &[&common[..], &["k8s:pod-label:app:api"]].concat()).unwrap();
    Bench { server, podman, listed, token, ca, asked, _scratch: scratch }
}

impl Bench {
    fn caller(&self, parent: &str) -> Container {
        let volumes = [
            format!("{}:/api.sock", self.server.socket().display()),
            format!("{}:/caller:ro", std::env::current_exe().unwrap().display()),
            "/lib:/lib:ro".to_owned(),
            "/lib64:/lib64:ro".to_owned(),
            "/usr/lib:/usr/lib:ro".to_owned(),
        ];
        let mut options: Vec<&str> = volumes.iter().flat_map(|volume| ["--volume", volume]).collect();
        let variable = format!("{SOCKET}=/api.sock");
        options.extend(["--env", &variable, "--cgroup-parent", parent]);
        self.podman.run(&options, &["/caller", "--exact", "helper_program", "--nocapture"]).unwrap()
    }

    fn list(&self, app: &str, container: &Container) {
        *self.listed.lock().unwrap() = Some((app.to_owned(), container.id.clone()));
    }

    async fn status_has(&self, what: &str, lines: &[&str]) {
        poll::holds(what, PATIENCE, async || {
            let status = self.server.cli(&["status"]).unwrap();
            let status = String::from_utf8_lossy(&status.stdout).into_owned();
            lines.iter().all(|line| status.contains(line))
        })
        .await
        .unwrap();
    }

    async fn says(&self, container: &Container, lines: &[String]) {
        let log = || self.podman.logs(&container.id).unwrap();
        let said = poll::holds("the caller says it", PATIENCE, async || {
            lines.iter().all(|wanted| log().lines().any(|line| line == wanted))
        });
        said.await.unwrap_or_else(|e| panic!("{e}: {lines:?}\n{}\n{}", log(), self.server.log()));
    }
}

fn has(id: &str) -> String {
    format!("has {id}")
}

fn lacks(id: &str) -> String {
    format!("lacks {id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_its_identity_once_it_is_listed_and_another_when_its_label_changes() {
    let bench = bench().await;
    let pod = bench.caller(&format!("/kubepods/burstable/pod{POD}"));
    let stands = fs::read_to_string(format!("/proc/{}/cgroup", pod.pid)).unwrap();
    assert!(stands.contains(&format!("/kubepods/burstable/pod{POD}/")), "{stands}");
    bench.says(&pod, &[lacks(WEB), lacks(API)]).await;
    bench.list("web", &pod);
    bench.says(&pod, &[has(WEB)]).await;
    let explained = bench.server.cli(&["explain", "pid", &pod.pid.to_string()]).unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    for selector in ["k8s:ns:shop", "k8s:pod-name:web-0", "k8s:container-image:web:1"] {
        assert!(explained.contains(selector), "{explained}");
    }
    bench.list("api", &pod);
    bench.says(&pod, &[has(API)]).await;
}

/// As a kubelet does, which looks at its containers once a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_listed_a_second_after_it_began_has_its_identity_at_its_first_call() {
    let bench = bench().await;
    let pod = bench.caller(&format!("/kubepods/pod{POD}"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.list("web", &pod);
    bench.says(&pod, &[has(WEB)]).await;
    let log = bench.podman.logs(&pod.id).unwrap();
    assert!(!log.contains(&lacks(WEB)), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_takes_nothing_from_a_pod_that_was_known() {
    let bench = bench().await;
    let pod = bench.caller(&format!("/kubepods/pod{POD}"));
    bench.list("web", &pod);
    bench.says(&pod, &[has(WEB)]).await;
    let lost = |bench: &Bench| bench.podman.logs(&pod.id).unwrap().matches(&lacks(WEB)).count();
    let before = lost(&bench);
    fs::write(&bench.token, "revoked").unwrap();
    bench.status_has("the failure shows", &["the attestor k8s fails", "401"]).await;
    fs::write(&bench.token, TOKEN).unwrap();
    poll::holds("it is over", PATIENCE, async || {
        let status = bench.server.cli(&["status"]).unwrap();
        !String::from_utf8_lossy(&status.stdout).contains("the attestor k8s fails")
    })
    .await
    .unwrap();
    assert_eq!(lost(&bench), before);
}

/// As an API server does when a pod is deleted whose kubelet does not end it; and as a kubelet that has just begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_stays_off_the_list_loses_its_identity_and_one_that_is_off_for_a_moment_does_not() {
    let bench = bench().await;
    let pod = bench.caller(&format!("/kubepods/pod{POD}"));
    bench.list("web", &pod);
    bench.says(&pod, &[has(WEB)]).await;
    let log = || bench.podman.logs(&pod.id).unwrap();
    let lost = || log().matches(&lacks(WEB)).count();
    let before = lost();
    *bench.listed.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_secs(4)).await;
    bench.list("web", &pod);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(lost(), before, "{}", log());
    *bench.listed.lock().unwrap() = None;
    // A list that fails in between does not make up for that: it would for as long as it fails now and then.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        fs::write(&bench.token, "revoked").unwrap();
        bench.status_has("the failure shows", &["the attestor k8s fails", "401"]).await;
        fs::write(&bench.token, TOKEN).unwrap();
    }
    poll::holds("it has nothing", PATIENCE, async || lost() > before).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_of_another_ca_is_neither_believed_nor_told_the_token() {
    let bench = bench().await;
    let right = fs::read(&bench.ca).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut other = CertificateParams::default();
    other.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(&bench.ca, other.self_signed(&key).unwrap().pem()).unwrap();
    let pod = bench.caller(&format!("/kubepods/pod{POD}"));
    bench.list("web", &pod);
    bench.says(&pod, &[lacks(WEB), lacks(API)]).await;
    bench.status_has("the failure shows", &["the attestor k8s fails", "certificate"]).await;
    assert!(!bench.podman.logs(&pod.id).unwrap().contains(&has(WEB)));
    // It answered nobody yet: no request came through the handshake.
    assert_eq!(bench.asked.load(Ordering::SeqCst), 0);
    fs::write(&bench.ca, right).unwrap();
    bench.says(&pod, &[has(WEB)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_outside_of_the_pod_has_nothing_of_it() {
    let bench = bench().await;
    let inside = bench.caller(&format!("/kubepods/pod{POD}"));
    bench.list("web", &inside);
    bench.says(&inside, &[has(WEB)]).await;
    // In no pod, and in another pod than the one that the list has it in.
    for parent in ["/elsewhere", "/kubepods/pod11111111-68b5-4b3f-8a63-0ec9a39e2a1c"] {
        let outside = bench.caller(parent);
        bench.says(&outside, &[lacks(WEB), lacks(API)]).await;
        let log = bench.podman.logs(&outside.id).unwrap();
        assert!(!log.contains(&has(WEB)), "{log}");
    }
}
