//! P-256 public keys as SubjectPublicKeyInfo: parsed once, right from then on.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};

/// What stands before the 65 octets of an uncompressed P-256 point: SEQUENCE, the algorithm
/// `id-ecPublicKey` with `secp256r1`, BIT STRING without unused bits. RFC 5480 §2.
const PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;

/// A point on P-256, held as its SubjectPublicKeyInfo (DER, 91 octets). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey(Arc<[u8]>);

/// Why a SubjectPublicKeyInfo is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum PublicKeyError {
    /// Another algorithm, another curve, a compressed point or not DER.
    #[error("not an uncompressed P-256 key in DER: make the key with id-ecPublicKey on secp256r1")]
    NotP256,
    /// The numbers are not a point of the curve.
    #[error("the public key is not a point on P-256")]
    NotOnCurve,
}

impl PublicKey {
    /// Parses a SubjectPublicKeyInfo and checks that it is a point on the curve.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        // P-256 has one DER encoding of each uncompressed point, so equality of the prefix is a
        // complete parse: no second spelling of the same key can get past it.
        let point = spki.strip_prefix(&PREFIX).ok_or(PublicKeyError::NotP256)?;
        if point.len() != POINT_BYTES || point.first() != Some(&4) {
            return Err(PublicKeyError::NotP256);
        }
        // aws-lc checks the curve equation and refuses the point at infinity. RFC 5480, SP 800-56A.
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).map_err(|_| PublicKeyError::NotOnCurve)?;
        Ok(Self(spki.into()))
    }

    /// The key of a point that aws-lc itself made.
    pub(super) fn from_own_point(point: &[u8]) -> Self {
        Self([&PREFIX[..], point].concat().into())
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.0
    }

    /// The uncompressed point, 65 octets.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        self.0.get(PREFIX.len()..).unwrap_or_default()
    }

    /// The key identifier: the first 160 bits of the SHA-256 of the SubjectPublicKeyInfo, the same
    /// as rcgen takes. RFC 5280 §4.2.1.2 leaves the method to the CA.
    #[must_use]
    pub fn key_identifier(&self) -> [u8; 20] {
        let hash = digest::digest(&digest::SHA256, &self.0);
        let mut identifier = [0; 20];
        identifier.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        identifier
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey(P-256 {})", data_encoding::HEXLOWER.encode(&self.key_identifier()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::workload;

    #[test]
    fn only_points_on_p256_are_keys() {
        let good = workload::generate().unwrap().spki;
        assert_eq!(PublicKey::from_spki(&good).unwrap().spki(), good);
        let check = |change: &dyn Fn(&mut Vec<u8>), expected| {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(PublicKey::from_spki(&bad), Err(expected));
        };
        check(&|k| k[90] ^= 1, PublicKeyError::NotOnCurve);
        check(&|k| k[27..].fill(0), PublicKeyError::NotOnCurve);
        check(&|k| k[27..].fill(0xff), PublicKeyError::NotOnCurve);
        check(&|k| k[26] = 2, PublicKeyError::NotP256);
        check(&|k| k.push(0), PublicKeyError::NotP256);
        check(&|k| k.truncate(90), PublicKeyError::NotP256);
        check(&|k| k[22] = 0x22, PublicKeyError::NotP256);
        check(&|k| k.clear(), PublicKeyError::NotP256);
    }
}
