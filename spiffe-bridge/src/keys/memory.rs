//! Keys in memory only: for tests and demos, and as what the disk's manager signs with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::Zeroizing;

use super::pair::Pair;
use super::{KeyError, KeyHome, KeyId, KeyManager, KeyType, PublicKey, SignatureScheme};

/// A key manager without a home: what it holds is gone when it is dropped.
#[derive(Default)]
pub struct MemoryKeys(RwLock<BTreeMap<KeyId, Arc<Held>>>);

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

    fn held(&self, id: &KeyId) -> Result<Arc<Held>, KeyError> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(id).cloned().ok_or_else(|| KeyError::Unknown { id: id.clone() })
    }

    /// Keeps `pair` as `id`, unless the name is taken.
    pub(super) fn insert(&self, id: &KeyId, held: Held) -> Result<PublicKey, KeyError> {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if keys.contains_key(id) {
            return Err(KeyError::Exists { id: id.clone() });
        }
        let public = held.pair.public().clone();
        keys.insert(id.clone(), Arc::new(held));
        Ok(public)
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
        Ok(self.held(id)?.pair.public().clone())
    }

    fn sign(&self, id: &KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.held(id)?.sign(scheme, message)
    }

    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.remove(id).map(drop).ok_or_else(|| KeyError::Unknown { id: id.clone() })
    }

    fn list(&self) -> Result<Vec<KeyId>, KeyError> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect())
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
