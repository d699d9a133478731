//! Keys for workloads: made here, beside them, and handed over at once (invariant 8).

use super::pair::Pair;
use super::{KeyError, KeyType};
use crate::identity::PrivateKey;

/// A new key pair for a workload.
#[derive(Debug)]
pub struct WorkloadKey {
    /// The private half, PKCS#8.
    pub private: PrivateKey,
    /// The public half, SubjectPublicKeyInfo (DER).
    pub spki: Vec<u8>,
}

/// Makes a key. An EC one with a single scalar multiplication: it is encoded from the pair that made
/// it, and not parsed again, which would cost as much as making it (crates.md §3).
///
/// # Errors
/// [`KeyError::Crypto`] if the library fails.
pub fn generate(key_type: KeyType) -> Result<WorkloadKey, KeyError> {
    let pair = Pair::generate(key_type)?;
    let private = PrivateKey::from_pkcs8(pair.expose_pkcs8()?);
    Ok(WorkloadKey { private, spki: pair.public().spki().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_belong_together() {
        for key_type in KeyType::ALL {
            let key = generate(key_type).unwrap();
            let pair = Pair::from_pkcs8(key.private.expose_pkcs8()).unwrap();
            assert_eq!((pair.public().spki(), pair.public().key_type()), (key.spki.as_slice(), key_type));
            assert!(!format!("{key:?}").contains("48, 129"), "a key's octets are never printed");
        }
        let [one, two] = [(); 2].map(|()| generate(KeyType::EcP256).unwrap().spki);
        assert_ne!(one, two);
    }
}
