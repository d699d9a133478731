//! The types of keys, and the ways to sign with them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{self as aws, VerificationAlgorithm};
use serde::{Deserialize, Serialize};

/// A type of key, in the one spelling that files, commands and reports use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyType {
    /// ECDSA on P-256: every TLS peer takes it.
    #[default]
    #[serde(rename = "ec-p256")]
    EcP256,
    /// ECDSA on P-384.
    #[serde(rename = "ec-p384")]
    EcP384,
    /// RSA of 2048 bits, exponent 65537.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA of 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA of 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
    /// Ed25519. RFC 8410.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ML-DSA-44. FIPS 204, RFC 9881.
    #[serde(rename = "ml-dsa-44")]
    MlDsa44,
    /// ML-DSA-65.
    #[serde(rename = "ml-dsa-65")]
    MlDsa65,
}

/// Not one of the types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a key type: write ec-p256, ec-p384, rsa-2048, rsa-3072, rsa-4096, ed25519, ml-dsa-44 or ml-dsa-65"
)]
pub struct UnknownKeyType;

impl KeyType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::EcP256,
        Self::EcP384,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::Ed25519,
        Self::MlDsa44,
        Self::MlDsa65,
    ];

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::Ed25519 => "ed25519",
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
        }
    }

    /// Whether a key of it takes so long to make (62 ms and more; the others take 0.1 ms at most:
    /// crates.md §3) that it is made ahead.
    #[must_use]
    pub const fn is_dear(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }

    /// How a key of it signs certificates.
    #[must_use]
    pub const fn certificate_scheme(self) -> SignatureScheme {
        match self {
            Self::EcP256 => SignatureScheme::EcdsaP256Sha256,
            Self::EcP384 => SignatureScheme::EcdsaP384Sha384,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => SignatureScheme::RsaPkcs1Sha256,
            Self::Ed25519 => SignatureScheme::Ed25519,
            Self::MlDsa44 => SignatureScheme::MlDsa44,
            Self::MlDsa65 => SignatureScheme::MlDsa65,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(text: &str) -> Result<Self, UnknownKeyType> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or(UnknownKeyType)
    }
}

/// How a message is hashed, signed and the signature written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureScheme {
    /// ECDSA on P-256 with SHA-256, in ASN.1 form, as certificates have it. RFC 3279 §2.2.3.
    EcdsaP256Sha256,
    /// The same, as r and s of 32 octets each: JOSE's ES256. RFC 7518 §3.4.
    EcdsaP256Sha256Fixed,
    /// ECDSA on P-384 with SHA-384, in ASN.1 form.
    EcdsaP384Sha384,
    /// The same, as r and s of 48 octets each: JOSE's ES384.
    EcdsaP384Sha384Fixed,
    /// RSASSA-PKCS1-v1_5 with SHA-256: JOSE's RS256. RFC 8017 §8.2.
    RsaPkcs1Sha256,
    /// The same with SHA-384: RS384.
    RsaPkcs1Sha384,
    /// The same with SHA-512: RS512.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA-256 and a salt as long as the hash: JOSE's PS256. RFC 7518 §3.5.
    RsaPssSha256,
    /// The same with SHA-384: PS384.
    RsaPssSha384,
    /// The same with SHA-512: PS512.
    RsaPssSha512,
    /// Ed25519. RFC 8032.
    Ed25519,
    /// ML-DSA-44, pure, with an empty context. FIPS 204 §5.2.
    MlDsa44,
    /// ML-DSA-65, the same way.
    MlDsa65,
}

impl SignatureScheme {
    /// Whether keys of `key_type` sign this way.
    #[must_use]
    pub const fn fits(self, key_type: KeyType) -> bool {
        match self {
            Self::EcdsaP256Sha256 | Self::EcdsaP256Sha256Fixed => matches!(key_type, KeyType::EcP256),
            Self::EcdsaP384Sha384 | Self::EcdsaP384Sha384Fixed => matches!(key_type, KeyType::EcP384),
            Self::RsaPkcs1Sha256
            | Self::RsaPkcs1Sha384
            | Self::RsaPkcs1Sha512
            | Self::RsaPssSha256
            | Self::RsaPssSha384
            | Self::RsaPssSha512 => key_type.is_dear(),
            Self::Ed25519 => matches!(key_type, KeyType::Ed25519),
            Self::MlDsa44 => matches!(key_type, KeyType::MlDsa44),
            Self::MlDsa65 => matches!(key_type, KeyType::MlDsa65),
        }
    }

    pub(super) fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => &aws::ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP256Sha256Fixed => &aws::ECDSA_P256_SHA256_FIXED,
            Self::EcdsaP384Sha384 => &aws::ECDSA_P384_SHA384_ASN1,
            Self::EcdsaP384Sha384Fixed => &aws::ECDSA_P384_SHA384_FIXED,
            Self::RsaPkcs1Sha256 => &aws::RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPkcs1Sha384 => &aws::RSA_PKCS1_2048_8192_SHA384,
            Self::RsaPkcs1Sha512 => &aws::RSA_PKCS1_2048_8192_SHA512,
            Self::RsaPssSha256 => &aws::RSA_PSS_2048_8192_SHA256,
            Self::RsaPssSha384 => &aws::RSA_PSS_2048_8192_SHA384,
            Self::RsaPssSha512 => &aws::RSA_PSS_2048_8192_SHA512,
            Self::Ed25519 => &aws::ED25519,
            Self::MlDsa44 => &aws::ML_DSA_44,
            Self::MlDsa65 => &aws::ML_DSA_65,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_type_has_one_spelling() {
        for key_type in KeyType::ALL {
            assert_eq!(key_type.as_str().parse(), Ok(key_type));
            assert_eq!(serde_json::to_value(key_type).unwrap(), key_type.as_str());
            assert!(key_type.certificate_scheme().fits(key_type));
            assert!(UnknownKeyType.to_string().contains(key_type.as_str()));
        }
        for text in ["", "EC-P256", "ec_p256", "p256", "rsa", "rsa-1024", "ec-p256 "] {
            assert_eq!(text.parse::<KeyType>(), Err(UnknownKeyType), "{text:?}");
        }
    }
}
