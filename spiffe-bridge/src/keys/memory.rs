//! Keys in memory only: for tests and demos, and as what the disk's manager signs with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::{KeyError, KeyHome, KeyId, KeyManager, PublicKey};

/// A key manager without a home: what it holds is gone when it is dropped.
#[derive(Default)]
pub struct MemoryKeys(RwLock<BTreeMap<KeyId, Arc<Held>>>);

/// A key, ready to sign. aws-lc wipes the private number when it is freed.
pub(super) struct Held {
    pair: EcdsaKeyPair,
    public: PublicKey,
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
        let public = held.public.clone();
        keys.insert(id.clone(), Arc::new(held));
        Ok(public)
    }
}

impl Held {
    pub(super) fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyError::Crypto { operation: "make a key" })?;
        Ok(Self::new(pair))
    }

    /// The key of a PKCS#8 document, if it is a P-256 one.
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).ok().map(Self::new)
    }

    /// The PKCS#8 document, which wipes itself when dropped: for the disk's manager alone.
    pub(super) fn expose_pkcs8(&self) -> Result<aws_lc_rs::pkcs8::Document, KeyError> {
        self.pair.to_pkcs8v1().map_err(|_| KeyError::Crypto { operation: "encode a key" })
    }

    fn new(pair: EcdsaKeyPair) -> Self {
        let public = PublicKey::from_own_point(pair.public_key().as_ref());
        Self { pair, public }
    }
}

impl KeyManager for MemoryKeys {
    fn generate(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.insert(id, Held::generate()?)
    }

    fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        Ok(self.held(id)?.public.clone())
    }

    fn sign(&self, id: &KeyId, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self
            .held(id)?
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_| KeyError::Crypto { operation: "sign" })?;
        Ok(signature.as_ref().to_vec())
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
