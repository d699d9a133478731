//! Keys that verify tokens.

use std::sync::Arc;

/// A public key under which JWT-SVIDs or WIT-SVIDs are valid, and the name that tokens call it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// `kid`: compared letter for letter. WIT-SVID §2.1.
    pub kid: Arc<str>,
    /// Its numbers.
    pub material: KeyMaterial,
}

/// The keys of a trust domain that verify tokens. One of a kind never verifies the other: JWT-SVID §6.2, WIT-SVID §6.2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenKeys {
    /// Those of JWT-SVIDs.
    pub jwt: Vec<TokenKey>,
    /// Those of WIT-SVIDs.
    pub wit: Vec<TokenKey>,
}

/// The numbers of a public key, big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// A point on a curve, each number of the curve's full length.
    Ec {
        /// Which curve.
        curve: Curve,
        /// Its x.
        x: Vec<u8>,
        /// Its y.
        y: Vec<u8>,
    },
    /// An RSA key.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
}

/// A curve of NIST's, under the name that JOSE gives it. RFC 7518 §6.2.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// `P-256`
    P256,
    /// `P-384`
    P384,
    /// `P-521`
    P521,
}

impl Curve {
    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// What `text` names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|known| known.as_str() == text)
    }

    /// The length of a coordinate in octets.
    #[must_use]
    pub const fn octets(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

impl TokenKey {
    /// Kid and numbers as octets, for a hash over a bundle.
    pub(super) fn parts(&self) -> [&[u8]; 4] {
        match &self.material {
            KeyMaterial::Ec { curve, x, y } => [self.kid.as_bytes(), curve.as_str().as_bytes(), x, y],
            KeyMaterial::Rsa { n, e } => [self.kid.as_bytes(), b"RSA", n, e],
        }
    }
}
