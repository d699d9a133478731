//! Keys for workloads: made here, beside them, and handed over at once (invariant 8).

use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use zeroize::Zeroizing;

use super::pair::Pair;
use super::{KeyError, KeyType, PublicKey};
use crate::identity::PrivateKey;

/// A new key pair for a workload.
#[derive(Debug)]
pub struct WorkloadKey {
    /// The private half, PKCS#8.
    pub private: PrivateKey,
    /// The public half.
    pub public: PublicKey,
}

/// Makes a key. An EC one with a single scalar multiplication: it is encoded from the pair that made
/// it, and not parsed again, which would cost as much as making it (crates.md §3).
///
/// # Errors
/// [`KeyError::Crypto`] if the library fails.
pub fn generate(key_type: KeyType) -> Result<WorkloadKey, KeyError> {
    let pair = Pair::generate(key_type)?;
    let private = PrivateKey::from_pkcs8(pair.expose_pkcs8()?);
    Ok(WorkloadKey { private, public: pair.public().clone() })
}

/// The private number of a P-256 key, big-endian, for a format that writes it by itself. Whoever calls this answers for
/// where it goes.
#[must_use]
pub fn expose_p256_number(key: &PrivateKey) -> Option<Zeroizing<Vec<u8>>> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.expose_pkcs8()).ok()?;
    let number: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().ok()?;
    Some(Zeroizing::new(number.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_belong_together() {
        for key_type in KeyType::ALL {
            let key = generate(key_type).unwrap();
            let pair = Pair::from_pkcs8(key.private.expose_pkcs8()).unwrap();
            assert_eq!((pair.public(), key.public.key_type()), (&key.public, key_type));
            // The public half is printed and is random: only the private one is looked for, from its
            // first octets (version and algorithm) on.
            let start = format!("{:?}", &key.private.expose_pkcs8()[..16]);
            let printed = format!("{key:?}");
            assert!(!printed.contains(start.trim_matches(['[', ']'])), "a key's octets are never printed");
        }
        let [one, two] = [(); 2].map(|()| generate(KeyType::EcP256).unwrap().public);
        assert_ne!(one, two);
    }
}
