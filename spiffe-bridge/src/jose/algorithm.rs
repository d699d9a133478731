//! The nine algorithms of JWT-SVID and WIT-SVID, and no other. JWT-SVID §2.1, WIT-SVID §2.3.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self as aws, RsaParameters, UnparsedPublicKey, VerificationAlgorithm};
use serde::{Deserialize, Serialize};

use crate::identity::{Curve, KeyMaterial};
use crate::keys::{KeyType, SignatureScheme};

/// A way to sign tokens, spelled as JOSE spells it, which knows no other case. RFC 7518 §3.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ES512")]
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// The same with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// The same with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// The same with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// The same with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
}

/// Not one of the nine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an algorithm of SVIDs: ES256, ES384, ES512, RS256, RS384, RS512, PS256, PS384 and PS512 are")]
pub struct UnknownAlgorithm;

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    /// The keys that sign with it, and how; `None` for P-521, of which no key is made here.
    #[must_use]
    pub const fn signing(self) -> Option<(KeyType, SignatureScheme)> {
        Some(match self {
            Self::Es256 => (KeyType::EcP256, SignatureScheme::EcdsaP256Sha256Fixed),
            Self::Es384 => (KeyType::EcP384, SignatureScheme::EcdsaP384Sha384Fixed),
            Self::Es512 => return None,
            Self::Rs256 => (KeyType::Rsa2048, SignatureScheme::RsaPkcs1Sha256),
            Self::Rs384 => (KeyType::Rsa2048, SignatureScheme::RsaPkcs1Sha384),
            Self::Rs512 => (KeyType::Rsa2048, SignatureScheme::RsaPkcs1Sha512),
            Self::Ps256 => (KeyType::Rsa2048, SignatureScheme::RsaPssSha256),
            Self::Ps384 => (KeyType::Rsa2048, SignatureScheme::RsaPssSha384),
            Self::Ps512 => (KeyType::Rsa2048, SignatureScheme::RsaPssSha512),
        })
    }

    /// Whether `key` signed `message` this way. A key of another kind or curve never did.
    #[must_use]
    pub fn verifies(self, key: &KeyMaterial, message: &[u8], signature: &[u8]) -> bool {
        match (self.verification(), key) {
            (Verification::Ecdsa(curve, algorithm), KeyMaterial::Ec { curve: of_key, x, y }) => {
                let point = [&[4], x.as_slice(), y].concat(); // SEC 1 §2.3.3
                curve == *of_key
                    && UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }
            (Verification::Rsa(parameters), KeyMaterial::Rsa { n, e }) => {
                PublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            _ => false,
        }
    }

    fn verification(self) -> Verification {
        match self {
            Self::Es256 => Verification::Ecdsa(Curve::P256, &aws::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Verification::Ecdsa(Curve::P384, &aws::ECDSA_P384_SHA384_FIXED),
            Self::Es512 => Verification::Ecdsa(Curve::P521, &aws::ECDSA_P521_SHA512_FIXED),
            Self::Rs256 => Verification::Rsa(&aws::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Verification::Rsa(&aws::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Verification::Rsa(&aws::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Verification::Rsa(&aws::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Verification::Rsa(&aws::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Verification::Rsa(&aws::RSA_PSS_2048_8192_SHA512),
        }
    }
}

enum Verification {
    Ecdsa(Curve, &'static dyn VerificationAlgorithm),
    Rsa(&'static RsaParameters),
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or(UnknownAlgorithm)
    }
}
