//! Keys in memory only: for tests and demos, and as what the disk's manager signs with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::pair::Pair;
use super::{KeyError, KeyHome, KeyId, KeyManager, KeyType, PublicKey, SignatureScheme};

/// A key manager without a home: what it holds is gone when it is dropped.
#[derive(Default)]
pub struct MemoryKeys {
    /// Read without a lock: all who sign do it with the same few.
    keys: ArcSwap<Keys>,
    change: Mutex<()>,
}

type Keys = BTreeMap<KeyId, Arc<Held>>;

/// A key, ready to sign.
pub(super) struct Held {
    pair: Pair,
    /// The same for signatures in fixed form, if it has such: reading it anew costs more than signing.
    fixed: Option<Pair>,
}

impl MemoryKeys {
    /// A manager without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What `ask` says of a key.
    fn of<T>(&self, id: &KeyId, ask: impl FnOnce(&Held) -> Result<T, KeyError>) -> Result<T, KeyError> {
        let keys = self.keys.load();
        ask(keys.get(id).ok_or_else(|| KeyError::Unknown { id: id.clone() })?)
    }

    /// Keeps `pair` as `id`, unless the name is taken.
    pub(super) fn insert(&self, id: &KeyId, held: Held) -> Result<PublicKey, KeyError> {
        let _change = self.change();
        let mut keys = Keys::clone(&self.keys.load());
        if keys.contains_key(id) {
            return Err(KeyError::Exists { id: id.clone() });
        }
        let public = held.pair.public().clone();
        keys.insert(id.clone(), Arc::new(held));
        self.keys.store(Arc::new(keys));
        Ok(public)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(super) fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        Self::new(Pair::generate(key_type)?)
    }

    /// The key of a PKCS#8 document, if it is of a type that is known.
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        Self::new(Pair::from_pkcs8(der)?).ok()
    }

    /// The PKCS#8 document, which wipes itself when dropped: for the disk's manager alone.
    pub(super) fn expose_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.pair.expose_pkcs8()
    }

    fn new(pair: Pair) -> Result<Self, KeyError> {
        let fixed = pair.fixed()?;
        Ok(Self { pair, fixed })
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let key_type = self.pair.public().key_type();
        if !scheme.fits(key_type) {
            return Err(KeyError::OtherScheme { key_type, scheme });
        }
        let is_fixed =
            matches!(scheme, SignatureScheme::EcdsaP256Sha256Fixed | SignatureScheme::EcdsaP384Sha384Fixed);
        let pair = self.fixed.as_ref().filter(|_| is_fixed).unwrap_or(&self.pair);
        pair.sign(scheme, message)
    }
}

impl KeyManager for MemoryKeys {
    fn generate(&self, id: &KeyId, key_type: KeyType) -> Result<PublicKey, KeyError> {
        self.insert(id, Held::generate(key_type)?)
    }

    fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.of(id, |held| Ok(held.pair.public().clone()))
    }

    fn sign(&self, id: &KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.of(id, |held| held.sign(scheme, message))
    }

    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        let _change = self.change();
        let mut keys = Keys::clone(&self.keys.load());
        keys.remove(id).ok_or_else(|| KeyError::Unknown { id: id.clone() })?;
        self.keys.store(Arc::new(keys)); // whoever signs with it just now ends that, and then it is wiped
        Ok(())
    }

    fn list(&self) -> Result<Vec<KeyId>, KeyError> {
        Ok(self.keys.load().keys().cloned().collect())
    }

    fn home(&self) -> KeyHome {
        KeyHome::Memory
    }
}

impl fmt::Debug for MemoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryKeys(..)")
    }
}
