//! Public keys as SubjectPublicKeyInfo: parsed once, right from then on.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ParsedPublicKey, UnparsedPublicKey};

use super::{KeyType, SignatureScheme};

/// A public key, held as its SubjectPublicKeyInfo (DER). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    spki: Arc<[u8]>,
    key_type: KeyType,
}

/// Why a SubjectPublicKeyInfo is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum PublicKeyError {
    /// Another algorithm, curve or size, a compressed point, an RSA exponent other than 65537, or not DER.
    #[error(
        "not a public key in DER of a type that is known here: make an EC P-256 or P-384, RSA (2048, 3072, 4096), Ed25519, ML-DSA-44 or ML-DSA-65 key"
    )]
    UnknownType,
    /// The numbers are not a key: no point of the curve, say.
    #[error("the octets are not an {key_type} public key")]
    NotAKey {
        /// What it says it is.
        key_type: KeyType,
    },
    /// The signature is not of this key and message, or was made in another way.
    #[error("the signature does not belong to key and message")]
    BadSignature,
}

/// How a type is written: what stands before, between and after the octets that differ from key to key.
///
/// Each key has one such spelling, so equality of all that is fixed is a complete parse, and no second
/// spelling of the same key gets past it.
struct Form {
    /// SEQUENCE, AlgorithmIdentifier, BIT STRING without unused bits.
    head: &'static [u8],
    /// What of the BIT STRING is fixed, in front.
    before: &'static [u8],
    /// How many octets differ.
    len: usize,
    /// What of it is fixed, behind.
    after: &'static [u8],
}

impl Form {
    const fn of(key_type: KeyType) -> Self {
        match key_type {
            KeyType::EcP256 => Self::new(EC_P256, UNCOMPRESSED, 64, &[]),
            KeyType::EcP384 => Self::new(EC_P384, UNCOMPRESSED, 96, &[]),
            KeyType::Rsa2048 => Self::new(RSA_2048, &[0x30, 0x82, 1, 0x0a, 2, 0x82, 1, 1, 0], 256, F4),
            KeyType::Rsa3072 => Self::new(RSA_3072, &[0x30, 0x82, 1, 0x8a, 2, 0x82, 1, 0x81, 0], 384, F4),
            KeyType::Rsa4096 => Self::new(RSA_4096, &[0x30, 0x82, 2, 0x0a, 2, 0x82, 2, 1, 0], 512, F4),
            KeyType::Ed25519 => Self::new(ED25519, &[], 32, &[]),
            KeyType::MlDsa44 => Self::new(ML_DSA_44, &[], 1312, &[]),
            KeyType::MlDsa65 => Self::new(ML_DSA_65, &[], 1952, &[]),
        }
    }

    const fn new(head: &'static [u8], before: &'static [u8], len: usize, after: &'static [u8]) -> Self {
        Self { head, before, len, after }
    }

    fn matches(&self, spki: &[u8]) -> bool {
        let rest = spki.strip_prefix(self.head).and_then(|rest| rest.strip_prefix(self.before));
        rest.and_then(|rest| rest.strip_suffix(self.after)).is_some_and(|key| {
            // A modulus of full size, as the zero in front of it says. X.690 §8.3.2.
            key.len() == self.len && (self.after.is_empty() || key.first().is_some_and(|top| *top >= 0x80))
        })
    }
}

/// An uncompressed point. SEC 1 §2.3.3.
const UNCOMPRESSED: &[u8] = &[4];
/// The exponent 65537, the only one that is made and taken here.
const F4: &[u8] = &[2, 3, 1, 0, 1];
/// id-ecPublicKey with secp256r1. RFC 5480 §2.
const EC_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// id-ecPublicKey with secp384r1.
const EC_P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// rsaEncryption with its NULL, and a modulus of 256 octets. RFC 3279 §2.3.1.
const RSA_2048: &[u8] = &[
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00,
];
/// The same with 384 octets.
const RSA_3072: &[u8] = &[
    0x30, 0x82, 0x01, 0xa2, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    0x05, 0x00, 0x03, 0x82, 0x01, 0x8f, 0x00,
];
/// The same with 512 octets.
const RSA_4096: &[u8] = &[
    0x30, 0x82, 0x02, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    0x05, 0x00, 0x03, 0x82, 0x02, 0x0f, 0x00,
];
/// id-Ed25519. RFC 8410 §4.
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// id-ml-dsa-44. RFC 9881 §4.
const ML_DSA_44: &[u8] = &[
    0x30, 0x82, 0x05, 0x32, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11,
    0x03, 0x82, 0x05, 0x21, 0x00,
];
/// id-ml-dsa-65.
const ML_DSA_65: &[u8] = &[
    0x30, 0x82, 0x07, 0xb2, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12,
    0x03, 0x82, 0x07, 0xa1, 0x00,
];

impl PublicKey {
    /// Parses a SubjectPublicKeyInfo and checks what can be: that a point is on its curve, that an RSA
    /// modulus is odd and of full size.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let known = KeyType::ALL.into_iter().find(|known| Form::of(*known).matches(spki));
        let key_type = known.ok_or(PublicKeyError::UnknownType)?;
        let key = Self { spki: spki.into(), key_type };
        // aws-lc checks the curve equation and refuses the point at infinity. RFC 5480, SP 800-56A.
        ParsedPublicKey::new(key_type.certificate_scheme().verification(), key.octets())
            .map_err(|_| PublicKeyError::NotAKey { key_type })?;
        Ok(key)
    }

    /// The key whose BIT STRING holds `octets`, which aws-lc itself wrote; `None` if it is of another type.
    pub(super) fn from_own_octets(key_type: KeyType, octets: &[u8]) -> Option<Self> {
        let form = Form::of(key_type);
        let spki = [form.head, octets].concat();
        form.matches(&spki).then(|| Self { spki: spki.into(), key_type })
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Its type.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The contents of the BIT STRING: an uncompressed point, an RSAPublicKey, or the key's own octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.spki.get(Form::of(self.key_type).head.len()..).unwrap_or_default()
    }

    /// The key identifier: the first 160 bits of the SHA-256 of the SubjectPublicKeyInfo, the same
    /// as rcgen takes. RFC 5280 §4.2.1.2 leaves the method to the CA.
    #[must_use]
    pub fn key_identifier(&self) -> [u8; 20] {
        let hash = digest::digest(&digest::SHA256, &self.spki);
        let mut identifier = [0; 20];
        identifier.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        identifier
    }

    /// Whether this key signed `message` the way of `scheme`.
    ///
    /// # Errors
    /// [`PublicKeyError::BadSignature`], also for a scheme that is none of this type.
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), PublicKeyError> {
        if !scheme.fits(self.key_type) {
            return Err(PublicKeyError::BadSignature);
        }
        UnparsedPublicKey::new(scheme.verification(), self.octets())
            .verify(message, signature)
            .map_err(|_| PublicKeyError::BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.key_type, data_encoding::HEXLOWER.encode(&self.key_identifier()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::workload;

    fn check(good: &[u8], change: &dyn Fn(&mut Vec<u8>), expected: PublicKeyError) {
        let mut bad = good.to_vec();
        change(&mut bad);
        assert_eq!(PublicKey::from_spki(&bad), Err(expected));
    }

    #[test]
    fn only_points_on_the_curve_are_keys() {
        for (key_type, head, len) in [(KeyType::EcP256, 26, 91), (KeyType::EcP384, 23, 120)] {
            let good = workload::generate(key_type).unwrap().public.spki().to_vec();
            let key = PublicKey::from_spki(&good).unwrap();
            assert_eq!((key.spki(), key.key_type(), good.len()), (good.as_slice(), key_type, len));
            let not_a_key = PublicKeyError::NotAKey { key_type };
            check(&good, &|k| k[len - 1] ^= 1, not_a_key);
            check(&good, &|k| k[head + 1..].fill(0), not_a_key);
            check(&good, &|k| k[head + 1..].fill(0xff), not_a_key);
            check(&good, &|k| k[head] = 2, PublicKeyError::UnknownType);
        }
    }

    #[test]
    fn each_type_is_told_by_its_octets_and_has_one_spelling() {
        for key_type in KeyType::ALL {
            let good = workload::generate(key_type).unwrap().public.spki().to_vec();
            let key = PublicKey::from_spki(&good).unwrap();
            assert_eq!((key.spki(), key.key_type()), (good.as_slice(), key_type));
            assert!(good.ends_with(key.octets()));
            check(&good, &|k| k.push(0), PublicKeyError::UnknownType);
            check(&good, &|k| k.truncate(k.len() - 1), PublicKeyError::UnknownType);
            check(&good, &|k| k[8] ^= 1, PublicKeyError::UnknownType); // in the algorithm
            check(&good, &|k| k.clear(), PublicKeyError::UnknownType);
        }
    }

    #[test]
    fn rsa_keys_are_of_full_size_and_have_the_common_exponent() {
        let good = workload::generate(KeyType::Rsa2048).unwrap().public.spki().to_vec();
        check(&good, &|k| *k.last_mut().unwrap() = 3, PublicKeyError::UnknownType);
        check(&good, &|k| k[33] &= 0x7f, PublicKeyError::UnknownType);
        check(&good, &|k| k[33 + 255] &= 0xfe, PublicKeyError::NotAKey { key_type: KeyType::Rsa2048 });
    }
}
