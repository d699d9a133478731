//! One private key of any type, as aws-lc holds it: it wipes the numbers when they are freed.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as aws, EcdsaKeyPair, Ed25519KeyPair, KeyPair, PqdsaKeyPair, RsaKeyPair};
use zeroize::Zeroizing;

use super::{KeyError, KeyType, PublicKey, SignatureScheme};

/// A private key and its public half.
pub(super) struct Pair {
    secret: Secret,
    public: PublicKey,
}

enum Secret {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
}

/// What aws-lc makes of a curve: the pair writes its signatures in one form for good.
type Curve = &'static aws::EcdsaSigningAlgorithm;

impl Pair {
    /// A new key. RSA takes tens of milliseconds up to seconds: see [`KeyType::is_dear`].
    pub(super) fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let fail = |_| KeyError::Crypto { operation: "make a key" };
        let secret = match key_type {
            KeyType::EcP256 => Secret::Ecdsa(EcdsaKeyPair::generate(P256).map_err(fail)?),
            KeyType::EcP384 => Secret::Ecdsa(EcdsaKeyPair::generate(P384).map_err(fail)?),
            KeyType::Rsa2048 => Secret::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).map_err(fail)?),
            KeyType::Rsa3072 => Secret::Rsa(RsaKeyPair::generate(KeySize::Rsa3072).map_err(fail)?),
            KeyType::Rsa4096 => Secret::Rsa(RsaKeyPair::generate(KeySize::Rsa4096).map_err(fail)?),
            KeyType::Ed25519 => Secret::Ed25519(Ed25519KeyPair::generate().map_err(fail)?),
            KeyType::MlDsa44 => Secret::MlDsa(PqdsaKeyPair::generate(&aws::ML_DSA_44_SIGNING).map_err(fail)?),
            KeyType::MlDsa65 => Secret::MlDsa(PqdsaKeyPair::generate(&aws::ML_DSA_65_SIGNING).map_err(fail)?),
        };
        let public = secret.public(key_type)?;
        Ok(Self { secret, public })
    }

    /// The key of a PKCS#8 document, if it is of one of the types.
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        KeyType::ALL.into_iter().find_map(|key_type| {
            let secret = Secret::from_pkcs8(key_type, der)?;
            let public = secret.public(key_type).ok()?;
            Some(Self { secret, public })
        })
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The PKCS#8 document, version 1 (RFC 5208): what every TLS library reads, BoringSSL's included.
    /// ML-DSA keys are the seed alone (RFC 9881 §6).
    pub(super) fn expose_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let fail = |_| KeyError::Crypto { operation: "encode a key" };
        // aws-lc's documents wipe themselves when dropped; our copy does so too.
        let copy = |document: &[u8]| Zeroizing::new(document.to_vec());
        Ok(match &self.secret {
            Secret::Ecdsa(pair) => copy(pair.to_pkcs8v1().map_err(fail)?.as_ref()),
            Secret::Rsa(pair) => copy(pair.as_der().map_err(fail)?.as_ref()),
            Secret::Ed25519(pair) => copy(pair.to_pkcs8v1().map_err(fail)?.as_ref()),
            Secret::MlDsa(pair) => copy(pair.to_pkcs8v1().map_err(fail)?.as_ref()),
        })
    }

    /// The same key again, for signatures of r and s at their fixed length; `None` if it is no ECDSA key.
    pub(super) fn fixed(&self) -> Result<Option<Self>, KeyError> {
        let curve: Curve = match self.public.key_type() {
            KeyType::EcP256 => &aws::ECDSA_P256_SHA256_FIXED_SIGNING,
            KeyType::EcP384 => &aws::ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => return Ok(None),
        };
        let pair = EcdsaKeyPair::from_pkcs8(curve, &self.expose_pkcs8()?)
            .map_err(|_| KeyError::Crypto { operation: "read a key" })?;
        Ok(Some(Self { secret: Secret::Ecdsa(pair), public: self.public.clone() }))
    }

    /// Signs `message` the way of `scheme`, which is one for this pair: the caller has looked.
    pub(super) fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let fail = |_| KeyError::Crypto { operation: "sign" };
        match &self.secret {
            Secret::Ecdsa(pair) => {
                Ok(pair.sign(&SystemRandom::new(), message).map_err(fail)?.as_ref().to_vec())
            }
            Secret::Rsa(pair) => {
                let encoding: &dyn aws::RsaEncoding = match scheme {
                    SignatureScheme::RsaPkcs1Sha256 => &aws::RSA_PKCS1_SHA256,
                    SignatureScheme::RsaPkcs1Sha384 => &aws::RSA_PKCS1_SHA384,
                    SignatureScheme::RsaPkcs1Sha512 => &aws::RSA_PKCS1_SHA512,
                    SignatureScheme::RsaPssSha256 => &aws::RSA_PSS_SHA256,
                    SignatureScheme::RsaPssSha384 => &aws::RSA_PSS_SHA384,
                    SignatureScheme::RsaPssSha512 => &aws::RSA_PSS_SHA512,
                    _ => return Err(KeyError::Crypto { operation: "sign" }),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature).map_err(fail)?;
                Ok(signature)
            }
            Secret::Ed25519(pair) => Ok(pair.try_sign(message).map_err(fail)?.as_ref().to_vec()),
            Secret::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                pair.sign(message, &mut signature).map_err(fail)?;
                Ok(signature)
            }
        }
    }
}

const P256: Curve = &aws::ECDSA_P256_SHA256_ASN1_SIGNING;
const P384: Curve = &aws::ECDSA_P384_SHA384_ASN1_SIGNING;

impl Secret {
    fn from_pkcs8(key_type: KeyType, der: &[u8]) -> Option<Self> {
        match key_type {
            KeyType::EcP256 => EcdsaKeyPair::from_pkcs8(P256, der).ok().map(Self::Ecdsa),
            KeyType::EcP384 => EcdsaKeyPair::from_pkcs8(P384, der).ok().map(Self::Ecdsa),
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
                RsaKeyPair::from_pkcs8(der).ok().map(Self::Rsa)
            }
            KeyType::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Self::Ed25519),
            KeyType::MlDsa44 => PqdsaKeyPair::from_pkcs8(&aws::ML_DSA_44_SIGNING, der).ok().map(Self::MlDsa),
            KeyType::MlDsa65 => PqdsaKeyPair::from_pkcs8(&aws::ML_DSA_65_SIGNING, der).ok().map(Self::MlDsa),
        }
    }

    /// The public half; an error if it is not of `key_type` (an RSA key of another size).
    fn public(&self, key_type: KeyType) -> Result<PublicKey, KeyError> {
        let octets = match self {
            Self::Ecdsa(pair) => pair.public_key().as_ref(),
            Self::Rsa(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::MlDsa(pair) => pair.public_key().as_ref(),
        };
        PublicKey::from_own_octets(key_type, octets)
            .ok_or(KeyError::Crypto { operation: "encode a public key" })
    }
}
