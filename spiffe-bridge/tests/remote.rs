//! Callers from the network: whose certificate opens the door, what it brings, and when it opens it no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use spiffe_bridge::attest::{AuthoritiesError, RemoteError, RemotePeer, RemoteTrust};
use spiffe_bridge::authority;
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{Revision, WorkloadUpdate, server_id};
use spiffe_bridge::node::{
    self, Caller, EndReason, Follower, Node, Origin, RemoteTask, SealingKey, Session, SessionState,
};
use spiffe_bridge::registration::{EntryIndex, Needs, document};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

mod support;

use support::{Ca, NOW, ca, domain, uri};

const PATIENCE: Duration = Duration::from_secs(20);
const EDGE: &str = "spiffe://ops.test/edge";

/// The operator's CA for the proxies of this door.
struct Operator(CertifiedIssuer<'static, KeyPair>);

fn at(time: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(i64::try_from(time.unix_seconds()).unwrap()).unwrap()
}

impl Operator {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, sans: &[SanType], hours: u64) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans.to_vec();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (at(NOW), at(NOW + Duration::from_secs(hours * 3600)));
        params.signed_by(&KeyPair::generate().unwrap(), &self.0).unwrap().der().clone()
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn peer(chain: &[CertificateDer<'_>]) -> RemotePeer {
    RemotePeer::new("192.0.2.7:4711".parse().unwrap(), chain).unwrap()
}

fn texts(peer: &RemotePeer, needs: Needs) -> Vec<String> {
    peer.selectors(needs).iter().map(ToString::to_string).collect()
}

#[test]
fn a_certificate_gives_its_names_and_its_hash_where_it_is_asked_for() {
    let operator = Operator::new("ops");
    let peer_of = |sans: &[SanType]| peer(&[operator.issue(sans, 1)]);
    let edge = peer_of(&[uri(EDGE), dns("Edge.Ops.test"), uri("urn:x")]);
    let names = ["x509:dns:edge.ops.test", "x509:uri:spiffe://ops.test/edge", "x509:uri:urn:x"];
    assert_eq!(texts(&edge, Needs::default()), names);
    assert_eq!(&**edge.name(), EDGE);
    let with_hash = texts(&edge, Needs::ALL);
    assert!(with_hash.len() == 4 && with_hash[1].starts_with("x509:sha256:"), "{with_hash:?}");
    assert_eq!(&**peer_of(&[dns("a.test")]).name(), "a.test");
    // Without a name the hash is all that there is.
    let nameless = peer_of(&[]);
    assert!(nameless.name().starts_with("sha256:"));
    assert_eq!(texts(&nameless, Needs::default()).len(), 1);

    let refused =
        |chain: &[CertificateDer<'_>]| RemotePeer::new("192.0.2.7:1".parse().unwrap(), chain).unwrap_err();
    assert!(matches!(refused(&[]), RemoteError::NoCertificate));
    assert!(matches!(refused(&[vec![1, 2].into()]), RemoteError::Unreadable(_)));
    let many: Vec<_> = (0..65).map(|n| dns(&format!("a{n}.test"))).collect();
    assert!(matches!(refused(&[operator.issue(&many, 1)]), RemoteError::TooManyNames(65)));
    let long = uri(&format!("spiffe://ops.test/{}", "x".repeat(2048)));
    assert!(matches!(refused(&[operator.issue(&[long], 1)]), RemoteError::BadName));
}

/// Our root's key, certified by another CA.
fn cross_signed(ca: &Ca, operator: &Operator) -> CertificateDer<'static> {
    let own = &ca.bundle.roots[0];
    let key = SubjectPublicKeyInfo::from_der(support::parsed(own).public_key().raw).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (at(NOW), at(NOW + Duration::from_secs(86_400)));
    params.signed_by(&key, &operator.0).unwrap().der().clone()
}

#[tokio::test]
async fn our_own_roots_never_open_the_door() {
    let ca = ca().await;
    let operator = Operator::new("ops");
    let parse = |der: &[&CertificateDer<'_>]| {
        let pem: String = der.iter().map(|der| support::pem(der)).collect();
        RemoteTrust::parse(format!("{}{pem}", operator.pem()).as_bytes(), &ca.bundle, &[])
    };
    assert!(parse(&[]).is_ok());
    let own = parse(&[&ca.bundle.roots[0]]).unwrap_err();
    assert!(matches!(own, AuthoritiesError::OwnRoot { number: 2, .. }), "{own:?}");
    assert!(own.to_string().contains("renew it here for ever"));
    let crossed = parse(&[&cross_signed(&ca, &operator)]).unwrap_err();
    assert!(
        matches!(crossed, AuthoritiesError::OwnRoot { number: 2, .. }),
        "the key is what counts: {crossed:?}"
    );

    // Another server's CA is the operator's choice; it becoming ours is not.
    let trust = parse(&[]).unwrap();
    let bundle = support::bundle("example.org", vec![ca.root().clone(), operator.0.der().clone()]);
    assert!(matches!(trust.beside(&bundle).unwrap_err(), AuthoritiesError::OwnRoot { number: 1, .. }));
}

#[tokio::test]
async fn nor_does_an_issuing_ca_of_ours_below_the_root() {
    let mut config = authority::Config::new(domain());
    config.hierarchy = authority::Hierarchy::Intermediate;
    let ca = support::ca_at(NOW, config).await;
    let below = ca.authority.intermediates();
    let operator = Operator::new("ops");
    let text = format!("{}{}", operator.pem(), support::pem(&below[0]));
    let error = RemoteTrust::parse(text.as_bytes(), &ca.bundle, below).unwrap_err();
    assert!(matches!(error, AuthoritiesError::OwnRoot { number: 2, .. }), "{error:?}");
    // An SVID is known as ours with and without the issuing CA in the chain that comes.
    let trust = RemoteTrust::parse(operator.pem().as_bytes(), &ca.bundle, below).unwrap();
    let svid = ca.issue("spiffe://example.org/web").await;
    for chain in [&svid.chain[..], &svid.chain[..1]] {
        let error = trust.verify(&peer(chain), ca.clock.now()).unwrap_err();
        assert!(matches!(error, RemoteError::OwnSvid), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_no_list_of_cas_is_refused_with_its_place() {
    let ca = ca().await;
    let refused = |text: &str| RemoteTrust::parse(text.as_bytes(), &ca.bundle, &[]).unwrap_err();
    let operator = Operator::new("ops");
    assert_eq!(refused(""), AuthoritiesError::Empty);
    assert!(matches!(refused("-----BEGIN CERTIFICATE-----\nAAAA\n"), AuthoritiesError::Pem(_)));
    let leaf = support::pem(&operator.issue(&[uri(EDGE)], 1));
    let not = refused(&format!("{}{leaf}", operator.pem()));
    assert!(matches!(not, AuthoritiesError::NotAnAuthority { number: 2, .. }), "{not:?}");
    assert_eq!(refused(&operator.pem().repeat(65)), AuthoritiesError::TooMany(65));
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_time_or_of_ours_does_not_open_it() {
    let ca = ca().await;
    let (operator, stranger) = (Operator::new("ops"), Operator::new("stranger"));
    let trust = RemoteTrust::parse(operator.pem().as_bytes(), &ca.bundle, &[]).unwrap();
    let edge = peer(&[operator.issue(&[uri(EDGE)], 2)]);
    let end = NOW + Duration::from_secs(2 * 3600 + 1);
    assert_eq!(trust.verify(&edge, NOW).unwrap(), end);
    assert!(trust.verify(&edge, end).unwrap_err().is_expiry());
    let rogue = trust.verify(&peer(&[stranger.issue(&[uri(EDGE)], 2)]), NOW).unwrap_err();
    assert!(matches!(rogue, RemoteError::Path(_)) && !rogue.is_expiry());

    let svid = ca.authority.sign(support::request("spiffe://example.org/web")).await.unwrap();
    let mine = trust.verify(&peer(&svid.chain), ca.clock.now()).unwrap_err();
    assert!(matches!(mine, RemoteError::OwnSvid), "{mine:?}");
}

struct Bench {
    ca: Ca,
    node: Node,
    index: watch::Sender<Arc<EntryIndex>>,
    trust: watch::Sender<Arc<RemoteTrust>>,
    operator: Operator,
    _stop: DropGuard,
    _dir: tempfile::TempDir,
}

fn index_of(revision: u64, text: &str) -> Arc<EntryIndex> {
    let parsed = document::parse(text, &"test.yaml".into(), &domain()).unwrap();
    Arc::new(EntryIndex::new(Revision(revision), parsed.iter().filter_map(|d| d.entry().cloned())))
}

fn entry(name: &str, selectors: &str) -> String {
    format!("---\nkind: Workload\nspiffe_id: spiffe://example.org/{name}\n{selectors}\n")
}

async fn start(entries: &str) -> Bench {
    let ca = ca().await;
    let dir = tempfile::tempdir().unwrap();
    let (index, watched) = watch::channel(index_of(1, entries));
    let seal = SealingKey::load_or_create(&dir.path().join("seal")).unwrap();
    let (authority, store, clock) = (ca.authority.clone(), ca.store.clone(), ca.clock.clone());
    let (node, engine) = node::open(node::Config::default(), authority, watched, store, seal, clock);
    let stop = CancellationToken::new();
    tokio::spawn(engine.run(stop.clone()));
    let operator = Operator::new("ops");
    let trust = RemoteTrust::parse(operator.pem().as_bytes(), &ca.bundle, &[]).unwrap();
    let trust = watch::Sender::new(Arc::new(trust));
    Bench { ca, node, index, trust, operator, _stop: stop.drop_guard(), _dir: dir }
}

struct Attached {
    state: Follower,
    session: Session,
}

impl Bench {
    fn attach(&self, certificate: CertificateDer<'static>) -> Attached {
        let peer = peer(&[certificate]);
        let origin = Origin::Remote { address: peer.address(), name: peer.name().clone() };
        let (sessions, session) = Session::channel(Caller { connection: 1, origin });
        let (node, clock) = (self.node.clone(), self.ca.clock.clone());
        let task = RemoteTask::new(peer, self.trust.subscribe(), node, sessions, clock);
        tokio::spawn(task.run());
        Attached { state: session.follow(), session }
    }
}

impl Attached {
    async fn until(&mut self, wanted: impl Fn(&WorkloadUpdate) -> bool) -> Arc<WorkloadUpdate> {
        let wait =
            self.state.wait_for(|state| matches!(state, SessionState::Serving(update) if wanted(update)));
        match tokio::time::timeout(PATIENCE, wait).await.expect("in time") {
            SessionState::Serving(update) => update,
            other => panic!("{other:?}"),
        }
    }

    async fn ended(&mut self) -> EndReason {
        let wait = self.state.wait_for(|state| matches!(state, SessionState::Ended(_)));
        match tokio::time::timeout(PATIENCE, wait).await.expect("in time") {
            SessionState::Ended(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn ids(update: &WorkloadUpdate) -> Vec<String> {
    update.identities.iter().map(|identity| identity.svid.spiffe_id.path().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_caller_gets_remote_entries_and_no_others() {
    let uid = rustix::process::geteuid().as_raw();
    let local = entry("local", &format!("selectors: [unix:uid:{uid}]"));
    let remote = entry("edge", &format!("remote: true\nselectors: ['x509:uri:{EDGE}']"));
    let bench = start(&(local + &remote)).await;
    let mut edge = bench.attach(bench.operator.issue(&[uri(EDGE)], 2));
    let update = edge.until(|update| !update.identities.is_empty()).await;
    assert_eq!(ids(&update), ["/edge"]);
    assert!(edge.session.verify().is_ok());
    // One whose certificate is good and says nothing that an entry asks for is entitled to nothing.
    let mut other = bench.attach(bench.operator.issue(&[uri("spiffe://ops.test/other")], 2));
    assert!(other.until(|_| true).await.bundle.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_may_ask_for_one_certificate_alone() {
    let bench = start("").await;
    let (one, two) = (bench.operator.issue(&[uri(EDGE)], 2), bench.operator.issue(&[uri(EDGE)], 2));
    let hash = texts(&peer(std::slice::from_ref(&one)), Needs::ALL).remove(0);
    let (mut first, mut second) = (bench.attach(one), bench.attach(two));
    first.until(|_| true).await;
    second.until(|_| true).await;
    let pinned = entry("pinned", &format!("remote: true\nselectors: ['x509:uri:{EDGE}', '{hash}']"));
    let any = entry("any", &format!("remote: true\nselectors: ['x509:uri:{EDGE}']"));
    bench.index.send_replace(index_of(2, &(pinned + &any)));
    let update = first.until(|update| update.identities.len() == 2).await;
    assert_eq!(ids(&update), ["/any", "/pinned"]);
    assert_eq!(ids(&*second.until(|update| !update.identities.is_empty()).await), ["/any"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_cas_cuts_whom_they_do_not_know() {
    let bench = start(&entry("edge", &format!("remote: true\nselectors: ['x509:uri:{EDGE}']"))).await;
    let mut edge = bench.attach(bench.operator.issue(&[uri(EDGE)], 2));
    edge.until(|update| !update.identities.is_empty()).await;
    let new = Operator::new("new");
    let both = format!("{}{}", bench.operator.pem(), new.pem());
    let publish = |pem: &str| {
        let trust = RemoteTrust::parse(pem.as_bytes(), &bench.ca.bundle, &[]).unwrap();
        bench.trust.send_replace(Arc::new(trust));
    };
    publish(&both);
    assert!(edge.session.verify().is_ok(), "it is still under one of them");
    let mut young = bench.attach(new.issue(&[uri(EDGE)], 2));
    young.until(|update| !update.identities.is_empty()).await;
    publish(&new.pem());
    assert_eq!(
        edge.session.verify().unwrap_err(),
        EndReason::CertificateNotTrusted,
        "at once, for a new stream"
    );
    assert_eq!(edge.ended().await, EndReason::CertificateNotTrusted);
    assert!(young.session.verify().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_ends_its_session() {
    let bench = start(&entry("edge", &format!("remote: true\nselectors: ['x509:uri:{EDGE}']"))).await;
    let mut edge = bench.attach(bench.operator.issue(&[uri(EDGE)], 1));
    edge.until(|update| !update.identities.is_empty()).await;
    bench.ca.hands.advance(Duration::from_secs(3600 + 1));
    assert_eq!(edge.session.verify().unwrap_err(), EndReason::CertificateExpired);
    assert_eq!(edge.ended().await, EndReason::CertificateExpired);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_has_an_identity_of_its_own_that_is_renewed() {
    let bench = start("").await;
    let id = server_id(&domain()).unwrap();
    let mut own = bench.node.own(id.clone(), vec!["sds.example.org".into()]).await.unwrap();
    while own.svid().is_none() {
        assert!(tokio::time::timeout(PATIENCE, own.changed()).await.unwrap());
    }
    let first = own.svid().unwrap();
    assert_eq!(first.spiffe_id, id);
    let leaf = spiffe_bridge::x509::inspect::leaf(&first.chain[0]).unwrap();
    assert_eq!(leaf.dns_names, ["sds.example.org"]);
    bench.ca.hands.advance(Duration::from_secs(45 * 60));
    while own.svid().unwrap().serial == first.serial {
        assert!(tokio::time::timeout(PATIENCE, own.changed()).await.unwrap());
    }
}
