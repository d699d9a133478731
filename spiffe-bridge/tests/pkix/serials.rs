//! Serial numbers, and what is durable before a signature.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spiffe_bridge::authority::{Config, LeafRequest};
use spiffe_bridge::identity::Serial;
use spiffe_bridge::keys::{
    KeyError, KeyHome, KeyId, KeyManager, KeyType, MemoryKeys, PublicKey, SignatureScheme,
};
use spiffe_bridge::store::Store;
use spiffe_bridge::x509::inspect;

use super::support::{self, Ca, NOW, ca, ca_over, domain, parsed, request};

#[tokio::test]
async fn pk_01_serials_are_positive_random_and_never_repeat() {
    let ca = ca().await;
    let key = request("spiffe://example.org/web");
    let all = futures_like(&ca, &key, 600).await;
    let serials: HashSet<_> = all.iter().cloned().collect();
    assert_eq!(serials.len(), 600, "the same key gets a new serial each time");
    let mut ones = [0usize; 128];
    for serial in &serials {
        let octets = serial.octets();
        assert!((16..=18).contains(&octets.len()) && octets[0] > 0 && octets[0] < 0x80, "{serial}");
        let tail = &octets[octets.len() - 16..];
        (0..128).for_each(|bit| ones[bit] += usize::from(tail[bit / 8] >> (bit % 8) & 1));
    }
    // 600 fair coins fall 300 ± 12.2; 7 deviations in any of 128 bits is 1 in 10^9.
    assert!(ones.iter().all(|n| n.abs_diff(300) < 86), "each of 128 bits is random: {ones:?}");
    let leaf = ca.issue("spiffe://example.org/web").await;
    assert_eq!(parsed(&leaf.chain[0]).raw_serial(), leaf.serial.octets());
    assert!(inspect::ca(ca.root()).unwrap().serial.octets().len() >= 16);
}

/// Asks for `count` leaves at once, so that they come in batches.
async fn futures_like(ca: &Ca, request: &LeafRequest, count: usize) -> Vec<Serial> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (authority, request) = (ca.authority.clone(), request.clone());
        tasks.spawn(async move { authority.sign(request).await.unwrap().serial });
    }
    tasks.join_all().await
}

/// A key manager that looks into the store each time before it signs.
struct Witness {
    keys: MemoryKeys,
    store: Store,
    seen: AtomicUsize,
}

impl KeyManager for Witness {
    fn generate(&self, id: &KeyId, key_type: KeyType) -> Result<PublicKey, KeyError> {
        let steps = self.store.list(b"authority/journal").unwrap();
        let names = |value: &[u8]| String::from_utf8_lossy(value).contains(id.as_str());
        assert!(steps.iter().any(|(_, step)| names(&step.value)), "the step is durable first");
        self.keys.generate(id, key_type)
    }
    fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.keys.public(id)
    }
    fn sign(&self, id: &KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if self.store.get(b"authority/root").unwrap().is_some() {
            let rows = self.store.list(b"authority/reserved/").unwrap();
            let reserved = rows.iter().any(|(_, row)| row.value.windows(message.len()).any(|w| w == message));
            assert!(reserved, "signed before its to-be-signed octets were durable");
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
        self.keys.sign(id, scheme, message)
    }
    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.keys.destroy(id)
    }
    fn list(&self) -> Result<Vec<KeyId>, KeyError> {
        self.keys.list()
    }
    fn home(&self) -> KeyHome {
        self.keys.home()
    }
}

#[tokio::test]
async fn pk_02_serial_and_octets_are_durable_before_the_signature() {
    let store = support::in_memory();
    let witness =
        Arc::new(Witness { keys: MemoryKeys::new(), store: store.clone(), seen: AtomicUsize::new(0) });
    let ca = ca_over(NOW, Config::new(domain()), witness.clone(), store).await;
    let serials = futures_like(&ca, &request("spiffe://example.org/web"), 40).await;
    assert_eq!(witness.seen.load(Ordering::Relaxed), 40);
    let rows = ca.store.list(b"authority/reserved/").unwrap();
    assert!(rows.len() < 40, "one reservation a batch");
    for serial in serials {
        let octets = serial.octets();
        assert!(rows.iter().any(|(_, row)| row.value.windows(octets.len()).any(|w| w == octets)));
    }
}
