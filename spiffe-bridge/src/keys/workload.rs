//! Keys for workloads: made here, beside them, and handed over at once (invariant 8).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use zeroize::Zeroizing;

use super::{KeyError, PublicKey};
use crate::identity::PrivateKey;

/// A new key pair for a workload.
#[derive(Debug)]
pub struct WorkloadKey {
    /// The private half, PKCS#8.
    pub private: PrivateKey,
    /// The public half, SubjectPublicKeyInfo (DER).
    pub spki: Vec<u8>,
}

/// Makes a P-256 key with a single scalar multiplication: it is encoded from the pair that made it,
/// and not parsed again, which would cost as much as making it (crates.md §3).
///
/// # Errors
/// [`KeyError::Crypto`] if the library fails.
pub fn generate() -> Result<WorkloadKey, KeyError> {
    let fail = |_| KeyError::Crypto { operation: "make a workload's key" };
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(fail)?;
    // The document wipes itself when dropped; our copy does so too.
    let document = pair.to_pkcs8v1().map_err(fail)?;
    let private = PrivateKey::from_pkcs8(Zeroizing::new(document.as_ref().to_vec()));
    let spki = PublicKey::from_own_point(pair.public_key().as_ref()).spki().to_vec();
    Ok(WorkloadKey { private, spki })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_belong_together() {
        let key = generate().unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.private.expose_pkcs8()).unwrap();
        assert_eq!(PublicKey::from_spki(&key.spki).unwrap().point(), pair.public_key().as_ref());
        assert_ne!(generate().unwrap().spki, key.spki);
        assert!(!format!("{key:?}").contains("48, 129"), "a key's octets are never printed");
    }
}
