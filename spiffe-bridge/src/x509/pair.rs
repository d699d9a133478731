//! Whether a private key is a certificate's own, and both of a kind that TLS peers take.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING,
    ML_DSA_87_SIGNING, PqdsaKeyPair, PqdsaSigningAlgorithm, RsaKeyPair,
};
use x509_parser::asn1_rs::{FromDer, Oid, Sequence, oid};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

/// BoringSSL takes no shorter modulus for a certificate of its own; aws-lc takes no longer one.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Odd, at least F4 (SP 800-56B §6.2), and no longer than BoringSSL reads: 33 bits.
const RSA_EXPONENT: std::ops::RangeInclusive<u64> = 65_537..=0x1_ffff_ffff;

/// Why a key and a certificate cannot be served together. Says nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// Another algorithm, another curve, or RSA of a size or exponent that is refused.
    #[error("the certificate's key is of a kind that TLS peers refuse")]
    Kind,
    /// Not PKCS#8 of version 1, or not of the certificate's algorithm.
    #[error("the private key cannot be read as one of the certificate's kind")]
    Unreadable,
    /// The certificate has another public key.
    #[error("the private key is not the certificate's")]
    Mismatch,
}

/// Checks that `pkcs8` (DER) is the private key of `spki`: P-256, P-384, P-521, RSA of 2048 to 8192 bits,
/// Ed25519 or ML-DSA. aws-lc derives the public key, so that a document which only claims it is found out.
///
/// # Errors
/// [`PairError`].
pub(super) fn check(spki: &SubjectPublicKeyInfo<'_>, pkcs8: &[u8]) -> Result<(), PairError> {
    if !is_version_1(pkcs8) {
        return Err(PairError::Unreadable);
    }
    let public = spki.subject_public_key.data.as_ref();
    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let pair = EcdsaKeyPair::from_pkcs8(curve(spki)?, pkcs8);
        same(pair.as_ref().map(|pair| pair.public_key().as_ref()).ok(), public)
    } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
        match spki.parsed() {
            Ok(PublicKey::RSA(key)) if is_usable(&key) => {}
            _ => return Err(PairError::Kind),
        }
        let pair = RsaKeyPair::from_pkcs8(pkcs8);
        same(pair.as_ref().map(|pair| pair.public_key().as_ref()).ok(), public)
    } else if *algorithm == OID_SIG_ED25519 {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8);
        same(pair.as_ref().map(|pair| pair.public_key().as_ref()).ok(), public)
    } else {
        let pair = PqdsaKeyPair::from_pkcs8(ml_dsa(algorithm).ok_or(PairError::Kind)?, pkcs8);
        same(pair.as_ref().map(|pair| pair.public_key().as_ref()).ok(), public)
    }
}

/// BoringSSL does not read the later form, which carries the public key beside the private one. RFC 5208 §5, RFC 5958 §2.
fn is_version_1(pkcs8: &[u8]) -> bool {
    let document = Sequence::from_der(pkcs8).ok().filter(|(rest, _)| rest.is_empty());
    document.is_some_and(|(_, document)| matches!(u32::from_der(&document.content), Ok((_, 0))))
}

fn same(found: Option<&[u8]>, public: &[u8]) -> Result<(), PairError> {
    match found {
        None => Err(PairError::Unreadable),
        Some(found) if found == public => Ok(()),
        Some(_) => Err(PairError::Mismatch),
    }
}

/// Named curves only. RFC 5480 §2.1.1.
fn curve(spki: &SubjectPublicKeyInfo<'_>) -> Result<&'static EcdsaSigningAlgorithm, PairError> {
    let named = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).ok_or(PairError::Kind)?;
    let curves = [
        (OID_EC_P256, &ECDSA_P256_SHA256_ASN1_SIGNING),
        (OID_NIST_EC_P384, &ECDSA_P384_SHA384_ASN1_SIGNING),
        (OID_NIST_EC_P521, &ECDSA_P521_SHA512_ASN1_SIGNING),
    ];
    curves.into_iter().find(|(oid, _)| *oid == named).map(|(_, curve)| curve).ok_or(PairError::Kind)
}

/// FIPS 204, RFC 9881 §2.
fn ml_dsa(algorithm: &Oid<'_>) -> Option<&'static PqdsaSigningAlgorithm> {
    let known = [
        (oid!(2.16.840.1.101.3.4.3.17), &ML_DSA_44_SIGNING),
        (oid!(2.16.840.1.101.3.4.3.18), &ML_DSA_65_SIGNING),
        (oid!(2.16.840.1.101.3.4.3.19), &ML_DSA_87_SIGNING),
    ];
    known.into_iter().find(|(oid, _)| oid == algorithm).map(|(_, algorithm)| algorithm)
}

fn is_usable(key: &RSAPublicKey<'_>) -> bool {
    let mut modulus = key.modulus.iter().skip_while(|octet| **octet == 0);
    let bits = modulus.next().map_or(0, |first| 8 - first.leading_zeros() as usize) + 8 * modulus.count();
    let exponent = key.try_exponent().unwrap_or_default();
    RSA_BITS.contains(&bits) && RSA_EXPONENT.contains(&exponent) && exponent % 2 == 1
}
