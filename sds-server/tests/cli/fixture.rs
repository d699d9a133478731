//! An admin socket with something to tell behind it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sds_server::admin::{
    AdminServer, Attested, AttestorState, Bundle, Entries, Explained, Forget, Forgotten, Holders, Near,
    NotHolding, Records, Rescan, Rescanned, Sources, State, Status, Trail, WhyNot,
};
use sds_server::runtime::{Drainer, Readiness, drain};
use sds_server::sds::Protocol;
use sds_server::sds::status::{NameState, NameStatus, StreamStatus};
use sds_server::telemetry::metrics;
use sds_server::telemetry::metrics::Metrics;
use serde_json::json;
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::Version;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{Ran, run};

pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) readiness: Readiness,
    pub(super) sources: Sources,
    _drainer: Drainer,
}

fn recorded() -> Metrics {
    static METRICS: std::sync::OnceLock<Metrics> = std::sync::OnceLock::new();
    METRICS.get_or_init(|| metrics::install().unwrap()).clone()
}

pub(super) async fn serve() -> Fixture {
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
                    "refusal_explained": {"row": "key: no PEM", "meaning": "it is broken", "advice": "mend it"},
                })],
                Some(_) => Vec::new(),
                None => return Err("no version is known".to_owned()),
            };
            let complete = missing.is_empty() && question.acknowledged;
            let NotHolding { name, version: wanted, .. } = question;
            Ok(Holders {
                name,
                wanted,
                members: 2,
                missing,
                turned_away: 0,
                feeds: usize::from(complete),
                complete,
            })
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
            let pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
            Some(Bundle { trust_domain, version, pem, spiffe: json!({"keys": []}) })
        }),
        audit: Arc::new(|trail: Trail| {
            let record =
                json!({"sequence": trail.from, "kind": trail.kind, "subject": "who", "detail": {"a": 1}});
            Box::pin(async move { Ok(Records { records: vec![record], first: 7, next: 8, end: 9 }) })
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
pub(super) fn stream((pid, names): (u32, Vec<NameStatus>)) -> serde_json::Value {
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
    pub(super) async fn cli(&self, args: &str) -> Ran {
        let mut args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        args.extend(["--data".to_owned(), self.dir.path().to_str().unwrap().to_owned()]);
        let ask = move || run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    pub(super) async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("admin.sock")).await.unwrap();
        exchange(&mut stream, request).await
    }
}

pub(super) async fn exchange(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    request: &str,
) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
