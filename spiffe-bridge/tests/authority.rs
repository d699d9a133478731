//! The authority through its public door: init, open, batches, failures, restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use spiffe_bridge::audit::Log;
use spiffe_bridge::authority::{self, Config, InitError, OpenError, SignError};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::TrustDomain;
use spiffe_bridge::keys::{
    DiskKeys, KeyError, KeyHome, KeyId, KeyManager, KeyType, MemoryKeys, PublicKey, SignatureScheme,
};
use spiffe_bridge::store::{self, Store};
use support::{NOW, ca, domain, in_memory, request};

fn open(config: Config, keys: Arc<dyn KeyManager>, store: &Store) -> Result<(), OpenError> {
    let (clock, _) = Clock::manual(NOW);
    let log = Log::open(store.clone(), clock.clone()).unwrap();
    authority::open(config, keys, store.clone(), log, clock).map(drop)
}

#[tokio::test]
async fn every_leaf_is_on_record_before_its_answer() {
    let ca = ca().await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    let log = Log::open(ca.store.clone(), ca.clock.clone()).unwrap();
    let records = log.read(0, 10).unwrap();
    let kinds: Vec<_> = records.iter().map(|r| r.event.kind.as_str()).collect();
    let key = "authority.token_key_created";
    assert_eq!(kinds, ["authority.root_created", key, key, "svid.issued"]);
    assert_eq!(records[3].event.subject, "spiffe://example.org/web");
    assert_eq!(records[3].event.detail["serial"], leaf.serial.to_string());
    assert_eq!(leaf.revision, ca.store.revision());
    assert_eq!(ca.authority.status().issued, 1);
}

#[tokio::test]
async fn the_authority_signs_for_no_key_of_its_own_and_for_no_time_at_all() {
    let ca = ca().await;
    let mut asked = request("spiffe://example.org/web");
    for id in ca.keys.list().unwrap() {
        asked.public_key = ca.keys.public(&id).unwrap();
        assert!(matches!(ca.refuse(asked.clone()).await, SignError::AuthorityKey), "{id}");
    }
    let short = spiffe_bridge::authority::LeafRequest {
        lifetime: Some(Duration::from_millis(999)),
        ..request("spiffe://example.org/web")
    };
    let error = ca.refuse(short).await;
    assert!(matches!(error, SignError::TooShort) && error.is_request_fault());
    assert_eq!(ca.authority.status().last_error, None, "their fault is not ours");
}

#[tokio::test]
async fn a_lifetime_is_cut_to_the_longest() {
    let ca = ca().await;
    let mut asked = request("spiffe://example.org/web");
    asked.lifetime = Some(Duration::from_secs(86_400 * 30));
    assert_eq!(ca.authority.sign(asked).await.unwrap().not_after, NOW + Duration::from_secs(86_400));
}

#[tokio::test]
async fn init_makes_one_root_and_open_finds_it_again() {
    let (store, keys) = (in_memory(), Arc::new(MemoryKeys::new()));
    let config = Config::new(domain());
    let (clock, _) = Clock::manual(NOW);
    assert!(matches!(open(config.clone(), keys.clone(), &store), Err(OpenError::NotInitialised)));
    authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
    open(config.clone(), keys.clone(), &store).unwrap();
    let again = authority::init(&config, keys.clone(), &store, &clock).await;
    assert!(matches!(again, Err(InitError::AlreadyInitialised)));
    assert_eq!(keys.list().unwrap().len(), 1);
    assert!(matches!(open(config.clone(), Arc::new(MemoryKeys::new()), &store), Err(OpenError::Key(_))));
    let other = Arc::new(MemoryKeys::new());
    other.generate(&keys.list().unwrap()[0], KeyType::EcP256).unwrap();
    assert!(matches!(open(config, other, &store), Err(OpenError::KeyMismatch { .. })));
    let foreign = Config::new(TrustDomain::new("example.com").unwrap());
    assert!(matches!(open(foreign, keys, &store), Err(OpenError::OtherTrustDomain { .. })));
}

/// A key manager whose signing fails until it is mended: a crash between key and certificate.
struct Broken(MemoryKeys, std::sync::atomic::AtomicBool);

impl KeyManager for Broken {
    fn generate(&self, id: &KeyId, key_type: KeyType) -> Result<PublicKey, KeyError> {
        self.0.generate(id, key_type)
    }
    fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.0.public(id)
    }
    fn sign(&self, id: &KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if self.1.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(KeyError::Crypto { operation: "sign" });
        }
        self.0.sign(id, scheme, message)
    }
    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.0.destroy(id)
    }
    fn list(&self) -> Result<Vec<KeyId>, KeyError> {
        self.0.list()
    }
    fn home(&self) -> KeyHome {
        self.0.home()
    }
}

#[tokio::test]
async fn an_init_that_was_cut_off_goes_on_with_the_same_key() {
    let (store, keys) = (in_memory(), Arc::new(Broken(MemoryKeys::new(), true.into())));
    let config = Config::new(domain());
    let (clock, _) = Clock::manual(NOW);
    assert!(authority::init(&config, keys.clone(), &store, &clock).await.is_err());
    let made = keys.list().unwrap();
    assert_eq!(made.len(), 1);
    assert!(matches!(open(config.clone(), keys.clone(), &store), Err(OpenError::NotInitialised)));
    let foreign = Config::new(TrustDomain::new("example.com").unwrap());
    let refused = authority::init(&foreign, keys.clone(), &store, &clock).await;
    assert!(matches!(refused, Err(InitError::OtherTrustDomain { .. })));
    keys.1.store(false, std::sync::atomic::Ordering::Relaxed);
    authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
    assert_eq!(keys.list().unwrap(), made);
    assert!(store.get(b"authority/journal").unwrap().is_none());
    open(config, keys, &store).unwrap();
}

#[tokio::test]
async fn a_key_that_cannot_sign_stops_nothing_else() {
    let keys = Arc::new(Broken(MemoryKeys::new(), false.into()));
    let ca = support::ca_over(NOW, Config::new(domain()), keys.clone(), in_memory()).await;
    keys.1.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = ca.refuse(request("spiffe://example.org/web")).await;
    assert!(matches!(error, SignError::Key(_)) && !error.is_request_fault());
    assert!(ca.authority.status().last_error.is_some());
    keys.1.store(false, std::sync::atomic::Ordering::Relaxed);
    ca.issue("spiffe://example.org/web").await;
    assert_eq!(ca.authority.status().last_error, None);
}

#[tokio::test]
async fn a_restart_keeps_root_bundle_and_version() {
    let data = tempfile::tempdir().unwrap();
    let config = Config::new(domain());
    let mut seen = Vec::new();
    for start in 0..2 {
        let (store, writer) = store::open(&data.path().join("store")).unwrap();
        let writer = std::thread::spawn(move || writer.run());
        let keys = Arc::new(DiskKeys::open(data.path().join("keys")).unwrap());
        let (clock, _) = Clock::manual(NOW);
        if start == 0 {
            authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
        }
        let log = Log::open(store.clone(), clock.clone()).unwrap();
        let (authority, issuer) = authority::open(config.clone(), keys, store, log, clock).unwrap();
        let drain = tokio_util::sync::CancellationToken::new();
        let task = tokio::spawn(issuer.run(drain.clone()));
        authority.sign(request("spiffe://example.org/web")).await.unwrap();
        let bundle = authority.bundle().borrow().clone();
        seen.push((bundle.version, bundle.roots.clone()));
        drain.cancel();
        task.await.unwrap().unwrap();
        assert!(matches!(authority.sign(request("spiffe://example.org/web")).await, Err(SignError::Stopped)));
        drop(authority);
        writer.join().unwrap();
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn what_was_asked_for_before_a_drain_is_finished() {
    let ca = ca().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (authority, asked) = (ca.authority.clone(), request("spiffe://example.org/web"));
        tasks.spawn(async move { authority.sign(asked).await });
    }
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    ca.drain.cancel();
    for result in tasks.join_all().await {
        assert!(matches!(result, Ok(_) | Err(SignError::Stopped)));
    }
    let log = Log::open(ca.store.clone(), ca.clock.clone()).unwrap();
    let recorded = log.read(0, 1000).unwrap().iter().filter(|r| r.event.kind == "svid.issued").count();
    assert_eq!(recorded as u64, ca.authority.status().issued, "recorded and answered agree");
}

#[tokio::test]
async fn expired_reservations_are_removed() {
    let ca = ca().await;
    for _ in 0..3 {
        ca.issue("spiffe://example.org/web").await;
    }
    let reserved = || ca.store.list(b"authority/reserved/").unwrap().len();
    assert_eq!(reserved(), 3);
    ca.hands.advance(Duration::from_secs(86_400 * 7));
    ca.issue("spiffe://example.org/web").await;
    assert_eq!(reserved(), 4, "an hour of life and seven days are not over");
    ca.hands.advance(Duration::from_secs(3_601));
    let mut changes = ca.store.watch(b"authority/reserved/", ca.store.revision());
    tokio::time::timeout(Duration::from_secs(10), async {
        while reserved() != 1 {
            changes.next().await.unwrap();
        }
    })
    .await
    .expect("pruned when the clock says so");
}

#[tokio::test]
async fn the_status_shows_what_an_operator_needs() {
    let ca = ca().await;
    let status = serde_json::to_value(ca.authority.status()).unwrap();
    assert_eq!(status["trust_domain"], "example.org");
    assert_eq!(status["root_ends_soon"], false);
    assert_eq!(status["key_home"]["kind"], "memory");
    assert!(status["root_subject"].as_str().unwrap().contains("example.org"));
    ca.hands.advance(Duration::from_secs(86_400 * 274));
    assert!(ca.authority.status().root_ends_soon);
}

/// A disk that fails when told to.
#[derive(Debug)]
struct Disk(redb::backends::InMemoryBackend, Arc<std::sync::atomic::AtomicBool>);

impl redb::StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        if self.1.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(std::io::Error::from_raw_os_error(5)); // EIO
        }
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

/// Counts its signatures.
struct Counting(MemoryKeys, std::sync::atomic::AtomicUsize);

impl KeyManager for Counting {
    fn generate(&self, id: &KeyId, key_type: KeyType) -> Result<PublicKey, KeyError> {
        self.0.generate(id, key_type)
    }
    fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.0.public(id)
    }
    fn sign(&self, id: &KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.sign(id, scheme, message)
    }
    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.0.destroy(id)
    }
    fn list(&self) -> Result<Vec<KeyId>, KeyError> {
        self.0.list()
    }
    fn home(&self) -> KeyHome {
        self.0.home()
    }
}

#[tokio::test]
async fn a_failing_disk_stops_signing_and_nothing_else() {
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (store, writer) =
        store::with_backend(Disk(redb::backends::InMemoryBackend::new(), fails.clone())).unwrap();
    std::thread::spawn(move || writer.run());
    let keys = Arc::new(Counting(MemoryKeys::new(), 0.into()));
    let ca = support::ca_over(NOW, Config::new(domain()), keys.clone(), store).await;
    let leaf = ca.issue("spiffe://example.org/web").await;
    let signatures = || keys.1.load(std::sync::atomic::Ordering::Relaxed);
    let before = signatures();
    fails.store(true, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..3 {
        let error = ca.refuse(request("spiffe://example.org/web")).await;
        assert!(matches!(error, SignError::Store(_)), "{error}");
    }
    assert_eq!(signatures(), before, "nothing is signed that is not reserved");
    assert!(ca.authority.status().last_error.unwrap().contains("store"));
    ca.verify(&leaf.chain).expect("what was issued stays valid");
    assert_eq!(ca.authority.bundle().borrow().roots.len(), 1);
}
