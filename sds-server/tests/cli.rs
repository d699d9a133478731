//! The command line, and what it asks a running server over the admin socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sds_server::admin::{
    AdminServer, Attested, AttestorState, Bundle, Entries, Explained, Finding, Forget, Forgotten, Holders,
    MetricsServer, Near, NotHolding, Rescan, Rescanned, Sources, State, Status, WhyNot,
};
use sds_server::cli::output::Printer;
use sds_server::cli::{EntryCheck, Hooks, Init, run_from};
use sds_server::config::Environment;
use sds_server::runtime::{Drainer, Readiness, drain};
use sds_server::sds::Protocol;
use sds_server::sds::status::{NameState, NameStatus, StreamStatus};
use sds_server::telemetry::metrics::{self, Metrics};
use serde_json::json;
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::Version;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Text {
    fn take(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Debug)]
struct Ran {
    status: u8,
    out: String,
    err: String,
}

fn run_in(environment: &Environment, args: &[&str]) -> Ran {
    let hooks = Hooks {
        serve: |settings, init, listeners| {
            anyhow::bail!("served {} {init:?} {listeners:?}", settings.trust_domain.as_str())
        },
        init: |settings| Ok(format!("initialised {}", settings.data.display())),
        check_entries: |path, _| {
            let is_wrong = path.ends_with("wrong");
            let problems = if is_wrong { vec!["a.yaml:3: no such selector".to_owned()] } else { Vec::new() };
            let trust_domains = vec!["other.org".to_owned()];
            let profiles = vec!["legacy".to_owned()];
            EntryCheck { files: 1, entries: 2, trust_domains, profiles, problems }
        },
    };
    let (out, err) = (Text::default(), Text::default());
    let args = ["countersign"].iter().chain(args).map(OsString::from);
    let (mut to_out, mut to_err) = (Printer::to(out.clone()), Printer::to(err.clone()));
    let status = run_from(args, hooks, environment, &mut to_out, &mut to_err);
    Ran { status, out: out.take(), err: err.take() }
}

fn run(args: &[&str]) -> Ran {
    run_in(&Environment { is_root: true, ..Environment::default() }, args)
}

#[test]
fn wrong_usage_and_wrong_configuration_end_with_2() {
    let check = |args: &[&str], says: &str| {
        let ran = run(args);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
    };
    check(&[], "Usage");
    check(&["servo"], "servo");
    check(&["serve"], "trust_domain: it has no default");
    check(&["serve", "--trust-domain", "Not Good"], "trust_domain");
    check(&["serve", "--config", "/nonexistent/c.yaml"], "cannot read the configuration");
    check(&["streams", "-o", "xml"], "xml");
    check(&["config", "check", "--trust-domain", "example.org", "--entries", "/wrong"], "a.yaml:3:");
}

#[test]
fn a_mistake_in_the_file_is_shown_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, "trust_domain: example.org\nsokcet: /x\n").unwrap();
    let ran = run(&["config", "check", "--config", path.to_str().unwrap()]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains(&format!("{}:2:1: ", path.display())), "{ran:?}");
}

#[test]
fn verbs_reach_their_work_with_the_flags() {
    let ran = run(&["serve", "--init", "--trust-domain", "example.org"]);
    assert_eq!((ran.status, ran.err.as_str()), (1, "countersign: served example.org Allowed Made\n"));
    let ran = run(&["serve", "--trust-domain", "example.org"]);
    assert_eq!(ran.err, format!("countersign: served example.org {:?} Made\n", Init::Refused));
    let ran = run(&["serve", "--takeover", "--trust-domain", "example.org"]);
    assert!(ran.err.ends_with("Refused TakenOver\n"), "{ran:?}");
    let ran = run(&["init", "--trust-domain", "example.org", "--data", "/d"]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "initialised /d\n"));
    let ran = run(&["entries", "check", "--trust-domain", "example.org", "--entries", "/wrong"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.starts_with(
        "a.yaml:3: no such selector\n2 entries in order, the profiles legacy, and the bundles of other.org, in 1 files"
    ));
    let ran =
        run(&["entries", "check", "--trust-domain", "example.org", "--entries", "/wrong", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.status, &report["trust_domains"][0]), (1, &json!("other.org")));
    assert_eq!(report["profiles"][0], "legacy");
}

#[test]
fn help_and_version_are_results() {
    for args in [["--version"], ["--help"]] {
        let ran = run(&args);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        assert!(ran.out.contains("countersign") || ran.out.contains("Usage"), "{ran:?}");
    }
    // Of a standard that is not stable, the commit that is followed. STABILITY §2.3.
    let wit = format!(
        "WIT-SVID, Broker API and Broker Endpoint, by spiffe/spiffe at {}",
        spiffe_bridge::jose::wit_svid::STANDARD
    );
    assert!(run(&["--version"]).out.contains(&wit));
}

/// Directories that a server would take, with modes that the umask has no say in.
fn surroundings() -> (tempfile::TempDir, impl Fn(&[&str]) -> Ran) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for name in ["data", "run", "entries"] {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (data, socket, entries) = (path("data"), path("run/s"), path("entries"));
    let check = move |more: &[&str]| {
        let args = ["config", "check", "--trust-domain", "example.org", "--data", &data, "--socket", &socket];
        run(&[&args, &["--entries", &entries][..], more].concat())
    };
    (dir, check)
}

#[test]
fn config_check_prints_what_can_be_read_back() {
    let (_dir, check) = surroundings();
    let ran = check(&[]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let file = sds_server::config::File::parse(&ran.out, Path::new("printed")).unwrap();
    assert_eq!(file.trust_domain.as_deref(), Some("example.org"));
    let report: serde_json::Value = serde_json::from_str(&check(&["-o", "json"]).out).unwrap();
    assert_eq!(report["settings"]["trust_domain"], "example.org");
    assert_eq!((&report["findings"], &report["entries"]["entries"]), (&json!([]), &json!(2)));
}

#[test]
fn config_check_finds_directories_that_a_server_would_refuse() {
    let (dir, check) = surroundings();
    let chmod = |name: &str, mode| {
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let found = |expected: &str| {
        let ran = check(&[]);
        assert!(ran.status == 2 && ran.err.contains(expected), "{expected}: {ran:?}");
    };
    chmod("data", 0o777);
    found("mode 0777, and others must not write to it: run chmod 0700");
    chmod("data", 0o700);
    chmod("run", 0o1777);
    found("chmod go-w it");
    let report: serde_json::Value = serde_json::from_str(&check(&["-o", "json"]).out).unwrap();
    assert_eq!(report["findings"][0]["key"], "socket");
    // A directory that is missing is made by the server; nothing is made here.
    std::fs::remove_dir(dir.path().join("run")).unwrap();
    assert_eq!(check(&[]).status, 0);
    assert!(!dir.path().join("run").exists());
    std::fs::remove_dir(dir.path().join("entries")).unwrap();
    found("make it, even if it is empty");
    std::fs::write(dir.path().join("entries"), "").unwrap();
    found("is not a directory: name the directory");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let hooks = Hooks {
        serve: |_, _, _| Ok(()),
        init: |_| Ok("done".to_owned()),
        check_entries: |_, _| EntryCheck::default(),
    };
    let environment = Environment { is_root: true, ..Environment::default() };
    let args = ["countersign", "init", "--trust-domain", "example.org"].map(OsString::from);
    let err = Text::default();
    let status = run_from(args, hooks, &environment, &mut Printer::to(Closed), &mut Printer::to(err.clone()));
    assert_eq!((status, err.take().as_str()), (0, ""));
}

#[test]
fn envoy_bootstrap_renders_the_flags() {
    let args = "envoy bootstrap --kind sidecar --service web --trust-domain example.org \
                --upstream-id spiffe://example.org/db --upstream 10.0.0.7:15006 --admin /run/envoy.sock";
    let ran = run(&args.split_whitespace().collect::<Vec<_>>());
    assert_eq!(ran.status, 0, "{ran:?}");
    for expected in ["10.0.0.7", "spiffe://example.org/db", "/run/countersign/api.sock", "/run/envoy.sock"] {
        assert!(ran.out.contains(expected), "{expected}\n{}", ran.out);
    }
    let wrong = args.replace("10.0.0.7:15006", "10.0.0.7");
    let ran = run(&wrong.split_whitespace().collect::<Vec<_>>());
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("HOST:PORT"), "{ran:?}");
    let check = |more: &str, says: &str| {
        let ran = run(&format!("{args} {more}").split_whitespace().collect::<Vec<_>>());
        assert!(ran.status == 2 && ran.err.contains(says), "{ran:?}");
    };
    check("--peer spiffe://other.org/web", "is not of example.org");
    check("--edge 127.0.0.1:8000", "--edge is for --kind gateway only");
    check("--edge-name shop.example.org", "--edge-name is for --kind gateway only");
    check(
        "--outbound 127.0.0.1:15006",
        "--inbound 0.0.0.0:15006 and --outbound 127.0.0.1:15006 are one address",
    );
    check("--app 127.0.0.1:7000 --outbound 127.0.0.1:7000", "give --app another port");
    let admin = args.replace("/run/envoy.sock", "127.0.0.1:15006");
    let ran = run(&admin.split_whitespace().collect::<Vec<_>>());
    assert!(ran.status == 2 && ran.err.contains("and --admin 127.0.0.1:15006 are one address"), "{ran:?}");
    let public = args.replace("/run/envoy.sock", "0.0.0.0:9901");
    let ran = run(&public.split_whitespace().collect::<Vec<_>>());
    assert!(ran.status == 2 && ran.err.contains("not a loopback address"), "{ran:?}");
}

#[test]
fn envoy_bootstrap_has_a_kind_for_each_side() {
    let check = |args: &str, status: u8, says: &str| {
        let line = format!("envoy bootstrap --service x --trust-domain example.org {args}");
        let ran = run(&line.split_whitespace().collect::<Vec<_>>());
        assert!(
            ran.status == status && [&ran.out, &ran.err].iter().any(|text| text.contains(says)),
            "{args}: {ran:?}"
        );
    };
    let api = "--upstream-id spiffe://example.org/api";
    check(&format!("--kind permissive {api}"), 0, "stat_prefix: inbound_plain");
    check(&format!("--kind sidecar --api ads --clusters /c.yaml {api}"), 0, "path: \"/c.yaml\"");
    check(&format!("--kind sidecar --api ads --part clusters {api}"), 0, "resources:");
    check(&format!("--kind sidecar --part clusters {api}"), 2, "unless secrets come by ADS");
    check(&format!("--kind sidecar --clusters /c.yaml {api}"), 2, "--api ads only");
    check("--kind transparent --upstream-domain --ipv4-only", 0, "port_value: 15021");
    let remote = "--remote sds.example.org:8443 --remote-cert /c.pem --remote-key /k.pem";
    check(&format!("--kind sidecar {api} {remote} --remote-ca /r.pem"), 0, "example.org/countersign/server");
    check(&format!("--kind sidecar {api} {remote}"), 2, "--remote-ca");
    check(
        &format!("--kind passthrough --route a.b=10.0.0.1:1 {remote} --remote-ca /r.pem"),
        2,
        "--remote is for",
    );
    check(
        "--kind passthrough --route a.example.org=10.0.0.1:1 --route a.example.org=10.0.0.2:1",
        0,
        "10.0.0.2",
    );
    check("--kind passthrough --route a.example.org", 2, "DNS=HOST:PORT");
    check("--kind egress --upstream-server api.example.com", 0, "host_rewrite_literal: \"api.example.com\"");
    check(&format!("--kind on-demand --prefetch api.example.org {api}"), 0, "prefetch_secret_names");
    check(&format!("--kind on-demand --api delta {api}"), 2, "by ADS only");
    check("--kind egress --upstream-domain", 2, "does not go with egress");
    check("--kind sidecar --upstream-domain --show-certificate", 2, "--upstream-server");
    check("--kind sidecar", 2, "--upstream-id");
    check(&format!("--kind sidecar {api} --upstream-domain"), 2, "cannot be used with");
}

#[test]
fn a_server_that_is_not_running_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&["status", "--data", dir.path().to_str().unwrap()]);
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("no server is running on"), "{ran:?}");
    let environment = Environment { admin: Some("/nonexistent/admin.sock".into()), ..Environment::default() };
    let ran = run_in(&environment, &["streams"]);
    assert!(ran.err.contains("\"/nonexistent/admin.sock\""), "{ran:?}");
    let ran = run_in(&Environment::default(), &["streams"]);
    assert_eq!(ran.status, 2, "{ran:?}");
}

struct Fixture {
    dir: tempfile::TempDir,
    status: Arc<Mutex<Status>>,
    readiness: Readiness,
    sources: Sources,
    _drainer: Drainer,
}

fn recorded() -> Metrics {
    static METRICS: std::sync::OnceLock<Metrics> = std::sync::OnceLock::new();
    METRICS.get_or_init(|| metrics::install().unwrap()).clone()
}

async fn serve() -> Fixture {
    let status = Arc::new(Mutex::new(Status {
        version: "0.1.0".to_owned(),
        trust_domain: "example.org".to_owned(),
        state: State::Ready,
        pending: Vec::new(),
        findings: Vec::new(),
        details: BTreeMap::from([(
            "authority".to_owned(),
            json!({"root_not_after": "2027-11-23T21:34:15Z"}),
        )]),
    }));
    let readiness = Readiness::new();
    let sources = Sources {
        status: Arc::new({
            let status = status.clone();
            move || status.lock().unwrap().clone()
        }),
        streams: Arc::new(|| {
            let name = |name: &str, state| NameStatus {
                name: name.to_owned(),
                state,
                version: Some(Version::default()),
                sent_at: None,
                acked_version: None,
                acked_at: None,
                took_ms: None,
                withheld: None,
                nack: None,
            };
            let first = vec![name("default", NameState::Acknowledged), name("ROOTCA", NameState::Refused)];
            let second = vec![name("later", NameState::NotAvailable)];
            [(7, first), (8, second), (9, Vec::new())].map(stream).to_vec()
        }),
        missing: Arc::new(|question| {
            let missing = match question.version.as_deref() {
                Some("8") => vec![json!({
                    "holder": "process:0-7-1", "pid": 7, "uid": 1, "identities": ["spiffe://example.org/web"],
                    "standing": "refused", "why": "refused", "explained": "refused it",
                    "refusal_explained": {"row": "§1.1", "meaning": "it is broken", "advice": "mend it"},
                })],
                Some(_) => Vec::new(),
                None => return Err("no version is known".to_owned()),
            };
            let complete = missing.is_empty() && question.acknowledged;
            let NotHolding { name, version: wanted, .. } = question;
            Ok(Holders { name, wanted, members: 2, missing, turned_away: 0, complete })
        }),
        forget: Arc::new(|Forget { holder }| {
            let identities = vec!["spiffe://example.org/edge".to_owned()];
            let not_after = Some("2026-11-24T12:00:00Z".to_owned());
            let forgotten = match &*holder {
                "remote:CN=gone" => Ok(Forgotten { holder, identities, not_after }),
                _ => Err(format!("{holder} stays: it is connected: drain it first")),
            };
            Box::pin(async move { forgotten })
        }),
        entries: Arc::new(|| Entries {
            entries: vec![json!({"spiffe_id": "spiffe://example.org/web", "selectors": ["unix:uid:1"]})],
            problems: Vec::new(),
        }),
        bundle: Arc::new(|| {
            let (trust_domain, version) = ("example.org".to_owned(), "1-ab".to_owned());
            Some(Bundle { trust_domain, version, pem: "-----BEGIN CERTIFICATE-----\n".to_owned() })
        }),
        rescan: Arc::new(|Rescan { prune }| {
            let (removed, held_back) = if prune { (5, 0) } else { (0, 5) };
            Box::pin(async move { Ok(Rescanned { removed, held_back, ..Rescanned::default() }) })
        }),
        explain: Arc::new(|pid| {
            let near = Near {
                spiffe_id: "spiffe://example.org/web".to_owned(),
                missing: vec!["unix:uid:2".to_owned()],
                why_not: vec![WhyNot {
                    selector: "unix:uid:2".to_owned(),
                    reason: "it has unix:uid:1".to_owned(),
                }],
                instead: vec!["unix:uid:1".to_owned()],
                has: vec!["unix:gid:1".to_owned()],
                source: "a.yaml".to_owned(),
            };
            let why = vec!["the executable is too large\u{1b}".to_owned()];
            let unix = Attested {
                attestor: "unix".to_owned(),
                state: AttestorState::Partly,
                selectors: vec!["unix:uid:1".to_owned()],
                why: why.clone(),
            };
            let explained = Explained {
                pid,
                unseen: why,
                attestors: vec![unix],
                near: vec![near],
                near_total: 1,
                ..Explained::default()
            };
            Box::pin(async move { if pid == 1 { Err("no process 1".to_owned()) } else { Ok(explained) } })
        }),
        metrics: recorded(),
        readiness: readiness.clone(),
    };
    let dir = tempfile::tempdir().unwrap();
    let server = AdminServer::bind(&dir.path().join("admin.sock"), &sources).unwrap();
    let (_drainer, drain) = drain::channel();
    tokio::spawn(server.run(drain));
    Fixture { dir, status, readiness, sources, _drainer }
}

/// A stream as the server shows it, by the server's own type.
fn stream((pid, names): (u32, Vec<NameStatus>)) -> serde_json::Value {
    let status = StreamStatus {
        stream: 1,
        connection: 1,
        pid: Some(pid),
        uid: Some(0),
        address: None,
        certificate: None,
        holder: None,
        statistics: false,
        statistics_unused: None,
        protocol: Protocol::Delta,
        node: Some("\u{1b}[2Jbad".to_owned()),
        cluster: None,
        since: Timestamp::default(),
        names,
    };
    serde_json::to_value(status).unwrap()
}

impl Fixture {
    async fn cli(&self, args: &str) -> Ran {
        let mut args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        args.extend(["--data".to_owned(), self.dir.path().to_str().unwrap().to_owned()]);
        let ask = move || run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("admin.sock")).await.unwrap();
        exchange(&mut stream, request).await
    }
}

async fn exchange(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    request: &str,
) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn status_ends_with_1_when_there_is_something_to_look_at() {
    let fixture = serve().await;
    let ran = fixture.cli("status").await;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("root not after  2027-11-23 21:34:15Z ("), "{ran:?}");

    let finding = Finding { what: "a.yaml cannot be read".into(), advice: "repair line 3".into() };
    fixture.status.lock().unwrap().findings.push(finding);
    let ran = fixture.cli("status").await;
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("! a.yaml cannot be read\n  → repair line 3"), "{ran:?}");
    let ran = fixture.cli("status -o json").await;
    let status: Status = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(status, *fixture.status.lock().unwrap());
}

#[tokio::test]
async fn streams_are_listed_without_obeying_what_callers_wrote() {
    let fixture = serve().await;
    let ran = fixture.cli("streams").await;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.out.lines().count(), 5, "a row for each name, and one for a stream without: {}", ran.out);
    assert!(ran.out.contains("\\u{1b}[2Jbad") && !ran.out.contains('\u{1b}'), "{ran:?}");
    assert!(ran.out.lines().any(|line| line.contains("ROOTCA") && line.contains("refused")), "{ran:?}");
}

#[tokio::test]
async fn streams_that_are_not_acknowledged_are_a_finding() {
    let fixture = serve().await;
    let ran = fixture.cli("streams --not-acknowledged -o json").await;
    assert_eq!(ran.status, 1);
    let streams: Vec<serde_json::Value> = serde_json::from_str(&ran.out).unwrap();
    let names: Vec<_> = streams.iter().flat_map(|stream| stream["names"].as_array().unwrap()).collect();
    assert_eq!(names.iter().map(|name| &name["name"]).collect::<Vec<_>>(), ["ROOTCA"]);
}

#[tokio::test]
async fn who_does_not_hold_a_version_is_told_with_the_reason_and_is_a_finding() {
    let fixture = serve().await;
    let ran = fixture.cli("streams --not-holding ROOTCA@8").await;
    assert_eq!(ran.status, 1);
    for said in [
        "spiffe://example.org/web",
        "refused it (it is broken: mend it)",
        "1 do not hold version 8 of ROOTCA",
    ] {
        assert!(ran.out.contains(said), "{said} in {ran:?}");
    }
    let ran = fixture.cli("streams --not-holding ROOTCA@8 -o json").await;
    let holders: Holders = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.status, holders.members, holders.missing.len(), holders.complete), (1, 2, 1, false));
    let ran = fixture.cli("streams --not-holding ROOTCA@7 --acknowledged").await;
    assert_eq!((ran.status, &*ran.out), (0, "all 2 members that have ROOTCA hold version 7\n"));
    let ran = fixture.cli("streams --not-holding ROOTCA").await;
    assert!(ran.status == 1 && ran.err.contains("no version is known"), "{ran:?}");
}

#[tokio::test]
async fn a_client_is_forgotten_by_the_name_that_the_roster_has_for_it() {
    let fixture = serve().await;
    let ran = fixture.cli("streams forget remote:CN=gone").await;
    let said = "remote:CN=gone (spiffe://example.org/edge) is forgotten; its last certificate is valid until 2026-11-24T12:00:00Z\n";
    assert_eq!((ran.status, &*ran.out), (0, said));
    let ran = fixture.cli("streams forget remote:CN=there").await;
    assert!(ran.status == 1 && ran.err.contains("stays: it is connected"), "{ran:?}");
    assert_eq!(fixture.cli("streams forget somebody").await.status, 2, "that is no holder");
}

#[tokio::test]
async fn entries_and_bundle_are_printed() {
    let fixture = serve().await;
    let ran = fixture.cli("entries").await;
    assert!(ran.out.contains("spiffe://example.org/web  unix:uid:1"), "{ran:?}");
    assert_eq!(ran.status, 0);
    let ran = fixture.cli("entries -o yaml").await;
    assert!(ran.out.contains("spiffe_id: "), "{ran:?}");
    assert_eq!(fixture.cli("bundle").await.out, "-----BEGIN CERTIFICATE-----\n");
    assert!(fixture.cli("bundle -o json").await.out.contains("\"version\": \"1-ab\""));
}

#[tokio::test]
async fn an_explanation_is_printed_for_people_and_for_machines() {
    let fixture = serve().await;
    let ran = fixture.cli("explain pid 7").await;
    assert_eq!(ran.status, 1, "it matches nothing: {ran:?}");
    let unix = "unix: in part\n  unix:uid:1\n  ! the executable is too large\\u{1b}\n";
    assert!(ran.out.contains(unix), "{ran:?}");
    assert!(ran.out.contains("it matches no entry\n"), "{ran:?}");
    let near = "  spiffe://example.org/web (a.yaml)\n    has   unix:gid:1\n    lacks unix:uid:2: it has unix:uid:1\n";
    assert!(ran.out.contains(near), "{ran:?}");
    let ran = fixture.cli("explain pid 7 -o json").await;
    let explained: Explained = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((explained.pid, explained.near.len()), (7, 1));
    assert!(ran.out.contains("\"state\": \"partly\""), "{ran:?}");
    assert!(fixture.cli("explain pid 7 -o yaml").await.out.contains("near_total: 1"));
    let ran = fixture.cli("explain pid 1").await;
    assert!(ran.status == 1 && ran.err.contains("no process 1"), "{ran:?}");
    assert!(
        fixture.raw("GET /v1/explain/pid/x HTTP/1.1\r\nhost: a\r\n\r\n").await.starts_with("HTTP/1.1 400")
    );
}

#[tokio::test]
async fn empty_lists_are_said_so_on_standard_error() {
    let mut fixture = serve().await;
    fixture.sources.streams = Arc::new(Vec::new);
    fixture.sources.entries = Arc::new(Entries::default);
    std::fs::create_dir(fixture.dir.path().join("empty")).unwrap();
    let data = fixture.dir.path().join("empty");
    let (_drainer, drain) = drain::channel();
    tokio::spawn(AdminServer::bind(&data.join("admin.sock"), &fixture.sources).unwrap().run(drain));
    let check = async |args: &'static str, says: &str| {
        let data = data.to_str().unwrap().to_owned();
        let ask = move || run(&args.split(' ').chain(["--data", &data]).collect::<Vec<_>>());
        let ran = tokio::task::spawn_blocking(ask).await.unwrap();
        assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (0, "", says));
    };
    check("streams", "no streams are open\n").await;
    check("streams --not-acknowledged", "all that was sent is acknowledged\n").await;
    check("entries", "no entries are in force\n").await;
}

#[tokio::test]
async fn a_reload_tells_what_the_brake_holds_back() {
    let fixture = serve().await;
    let ran = fixture.cli("entries reload").await;
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.contains("--prune"), "{ran:?}");
    let ran = fixture.cli("entries reload --prune").await;
    assert_eq!((ran.status, ran.out.as_str()), (0, "0 added, 0 changed, 5 removed\n"));
    let ran = fixture.cli("entries reload -o yaml").await;
    assert!(ran.status == 1 && ran.out.contains("held_back: 5"), "{ran:?}");
}

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
