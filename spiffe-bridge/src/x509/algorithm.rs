//! The names of signature algorithms, as certificates and as rcgen write them.

use rcgen::SignatureAlgorithm;

use crate::keys::KeyType;

/// 1.2.840.10045.4.3.2, no parameters. RFC 5758 §3.2.
const ECDSA_WITH_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// 1.2.840.10045.4.3.3.
const ECDSA_WITH_SHA384: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// 1.2.840.113549.1.1.11, with its NULL. RFC 4055 §5.
const SHA256_WITH_RSA: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
/// 1.3.101.112, no parameters. RFC 8410 §3.
const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
/// 2.16.840.1.101.3.4.3.17, no parameters. RFC 9881 §2.
const ML_DSA_44: &[u8] = &[0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17];
/// 2.16.840.1.101.3.4.3.18.
const ML_DSA_65: &[u8] = &[0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 18];

/// The AlgorithmIdentifier of what keys of `signer` sign certificates with.
pub(super) const fn identifier(signer: KeyType) -> &'static [u8] {
    match signer {
        KeyType::EcP256 => ECDSA_WITH_SHA256,
        KeyType::EcP384 => ECDSA_WITH_SHA384,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => SHA256_WITH_RSA,
        KeyType::Ed25519 => ED25519,
        KeyType::MlDsa44 => ML_DSA_44,
        KeyType::MlDsa65 => ML_DSA_65,
    }
}

/// The same for rcgen.
pub(super) const fn for_rcgen(signer: KeyType) -> &'static SignatureAlgorithm {
    match signer {
        KeyType::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyType::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => &rcgen::PKCS_RSA_SHA256,
        KeyType::Ed25519 => &rcgen::PKCS_ED25519,
        KeyType::MlDsa44 => &rcgen::PKCS_ML_DSA_44,
        KeyType::MlDsa65 => &rcgen::PKCS_ML_DSA_65,
    }
}
