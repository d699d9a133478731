use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use spiffe_bridge::attest::ProcessKey;
use spiffe_bridge::identity::Version;
use spiffe_bridge::node::{Caller, Origin, SessionState, Sessions};
use spiffe_bridge::roster::{self, Config};
use spiffe_bridge::store;
use tower::ServiceExt as _;

use super::*;
use crate::receipts::observation::{Owner, Secret};
use crate::receipts::xxh64::xxh64;
use crate::sds::{Request, SdsService, Shared, StreamRegistry, Told, request, sotw};

struct Office {
    desk: Desk,
    roster: Roster,
    streams: StreamRegistry,
}

async fn office() -> Office {
    let (store, writer) = store::in_memory().unwrap();
    std::thread::spawn(move || writer.run());
    let (roster, _) = roster::open(Config::default(), store, None, Clock::system()).await.unwrap();
    let streams = StreamRegistry::of(Proxies::remembered_by(roster.clone()));
    let desk = Desk::new(streams.proxies().clone(), roster.clone(), Clock::system());
    Office { desk, roster, streams }
}

fn caller(holder: HolderKey) -> (Sessions, Session) {
    let (sessions, session) = Session::channel(Caller::local(1, 1, 1, 1));
    sessions.held_by(holder);
    (sessions, session)
}

/// A caller with the certificate that all of these show, over another connection.
fn remote(connection: u64) -> (Sessions, Session) {
    named("proxy".into(), connection)
}

fn named(name: Arc<str>, connection: u64) -> (Sessions, Session) {
    let origin = Origin::Remote { address: ([127, 0, 0, 1], 1).into(), name: name.clone() };
    let (sessions, session) = Session::channel(Caller { connection, origin });
    sessions.held_by(HolderKey::Remote(name));
    (sessions, session)
}

fn process(pid: u32) -> HolderKey {
    HolderKey::Process(ProcessKey::of_pid(pid).unwrap())
}

fn own() -> HolderKey {
    process(std::process::id())
}

/// Opens a stream of `session` that asks for roots. It lives as long as what is returned.
async fn asks(office: &Office, session: &Session) -> impl Sized + use<> {
    let ask = Request {
        node: None,
        type_url: String::new(),
        nonce: String::new(),
        error: None,
        holds: false,
        names: request::Names::All(vec!["ROOTCA".into()]),
    };
    let message = sotw::encode_request(&ask);
    let head = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    let first = futures::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(head)))]);
    let body = StreamBody::new(Box::pin(first.chain(futures::stream::pending())));
    let request = http::Request::post("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets")
        .header("content-type", "application/grpc")
        .extension(session.clone())
        .body(body)
        .unwrap();
    let shared = Shared { streams: office.streams.clone(), ..Shared::default() };
    let response = SdsService::new(shared).oneshot(request).await.unwrap();
    let mut body = Box::pin(response.into_body());
    // What it asks is heard; nothing is there to answer it with, or the first answer is taken.
    let _ = futures::poll!(http_body_util::BodyExt::frame(&mut body));
    body
}

fn flush() -> Observation {
    let secret = Secret { version: Some(1), rejected: 0, users: [Owner::new("listener.in")].into() };
    Observation {
        secrets: [("ROOTCA".into(), secret)].into(),
        updates: [(Owner::new("listener.in"), 1)].into(),
    }
}

#[tokio::test]
async fn who_has_no_stream_is_heard_and_not_kept() {
    let office = office().await;
    let (_sessions, session) = caller(own());
    assert!(matches!(office.desk.admits(&session), Ok(None)));
    let (_, unknown) = Session::channel(Caller::local(1, 1, 1, 1));
    // Several proxies may come with one certificate: each is heard over the connection of its own streams.
    let ((_one, one), (_other, other)) = (remote(1), remote(2));
    let _stream = asks(&office, &one).await;
    assert!(matches!(office.desk.admits(&other), Ok(None)));
    assert!(matches!(office.desk.admits(&unknown), Ok(None)));
    assert!(lock(&office.desk.books).is_empty());
}

#[tokio::test]
async fn who_flushes_too_often_is_refused_and_others_are_not() {
    let office = office().await;
    let ((_a, one), (_b, other)) = (caller(own()), caller(process(1)));
    let _streams = (asks(&office, &one).await, asks(&office, &other).await);
    let admitted = (0..1000).filter(|_| office.desk.admits(&one).is_ok()).count();
    assert!((20..100).contains(&admitted), "{admitted}");
    assert_eq!(office.desk.admits(&one).unwrap_err(), Refused::Rate);
    assert!(office.desk.admits(&other).is_ok());
}

#[tokio::test]
async fn proxies_with_one_certificate_have_a_pace_each() {
    let office = office().await;
    let ((_a, one), (_b, other)) = (remote(1), remote(2));
    let _streams = (asks(&office, &one).await, asks(&office, &other).await);
    while office.desk.admits(&one).is_ok() {}
    assert!(matches!(office.desk.admits(&other), Ok(Some(_))));
}

#[tokio::test]
async fn a_caller_without_an_entry_is_no_member_whatever_it_reports() {
    let office = office().await;
    let (sessions, session) = caller(own());
    sessions.publish(SessionState::Serving(Arc::new(WorkloadUpdate::default())));
    let _stream = asks(&office, &session).await;
    let proxy = office.desk.admits(&session).unwrap().unwrap();
    office.desk.flushed(&proxy, &session, flush()).unwrap();
    office.desk.look();
    assert_eq!(office.roster.status().members, 0);
}

#[tokio::test]
async fn who_finds_no_room_for_its_flush_has_nothing_kept() {
    let mut office = office().await;
    let (_sessions, session) = caller(own());
    let _stream = asks(&office, &session).await;
    let proxy = office.desk.admits(&session).unwrap().unwrap();
    let book = office.desk.book(&proxy);
    let mut book = lock(&book);
    let version = Version::default();
    let at = Timestamp::default();
    let roots = Told {
        stream: 1,
        connection: 1,
        has_past: false,
        name: "ROOTCA".into(),
        sends: 1,
        acks: 1,
        nacks: 0,
        sent: version,
        sent_at: at,
        is_claim: true,
        answer: Some((Ok(()), at)),
        acked: Some(version),
    };
    let look = Look { told: vec![roots], ..proxy.look() };
    let mut seen = flush();
    seen.secrets.values_mut().for_each(|s| s.version = Some(xxh64(version.to_string().as_bytes())));
    for (room, is_kept) in [(10_000, true), (10, false)] {
        office.desk.room = Room::new(room);
        book.ledger.settle(&look, Some((1, seen.clone())), at);
        assert!(book.ledger.bytes() > 0);
        book.kept = None;
        office.desk.make_room(&proxy, &mut book, 1);
        assert_eq!((book.ledger.bytes() > 0, book.kept.is_some()), (is_kept, is_kept));
    }
}

/// What is written to the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn two_thousand_statistics_that_cannot_be_read_write_a_few_lines() {
    let log = Log::default();
    let written = log.clone();
    let lines = tracing_subscriber::fmt().with_writer(move || written.clone()).with_ansi(false).finish();
    let _lines = tracing::subscriber::set_default(lines);
    let office = office().await;
    let shared = Shared { streams: office.streams.clone(), ..Shared::default() };
    let receipts = crate::receipts::Receipts::beside(SdsService::new(shared), office.desk.clone());
    let mut refused = 0;
    for nth in 0..100 {
        let (_sessions, session) = named(format!("proxy {nth}").into(), nth);
        let _stream = asks(&office, &session).await;
        for _ in 0..20 {
            let nonsense = http_body_util::Full::new(Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]));
            let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
            let request = http::Request::post(path).extension(session.clone()).body(nonsense).unwrap();
            let response = receipts.clone().oneshot(request).await.unwrap();
            refused += usize::from(response.headers()["grpc-status"] == "3");
        }
    }
    assert_eq!(refused, 2000);
    let log = String::from_utf8(lock(&log.0).clone()).unwrap();
    let lines = log.lines().filter(|line| line.contains("statistics refused")).count();
    assert!((1..=20).contains(&lines), "{lines}");
}

#[tokio::test]
async fn a_client_that_is_gone_is_forgotten() {
    let office = office().await;
    let (sessions, session) = caller(own());
    let stream = asks(&office, &session).await;
    office.desk.admits(&session).unwrap().unwrap();
    assert_eq!(lock(&office.desk.books).len(), 1);
    drop((stream, sessions, session));
    office.desk.look();
    office.desk.sweep();
    assert!(lock(&office.desk.books).is_empty());
}
