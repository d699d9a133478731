//! Public keys as JSON Web Keys. RFC 7517, RFC 7518 §6.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};

use super::Algorithm;
use crate::identity::{Curve, KeyMaterial, TokenKey};
use crate::keys::{KeyType, PublicKey};

/// Why a JWK is not a key for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// Bundle §4.1.3: such a key is passed over, and the others are kept.
    #[error("not an EC or RSA key")]
    Kind,
    /// RFC 7518 §6.2.1, §6.3.1.
    #[error("a member of the key is missing, or not base64url of the right length")]
    Member,
    /// Bytes of a private key in a public place: whoever made this lost it.
    #[error("the key holds private members: publish the public ones only, and replace the key")]
    Private,
    /// JWT-SVID §6.1, WIT-SVID §6.1.
    #[error("the key has no kid")]
    NoKid,
}

/// Reads the members of a public key.
///
/// # Errors
/// [`JwkError`].
pub fn material(jwk: &Map<String, Value>) -> Result<KeyMaterial, JwkError> {
    const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    let text = |name| jwk.get(name).and_then(Value::as_str);
    let octets = |name| {
        let text = text(name).ok_or(JwkError::Member)?;
        BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| JwkError::Member)
    };
    let material = match text("kty") {
        Some("EC") => {
            let curve = text("crv").and_then(Curve::parse).ok_or(JwkError::Kind)?;
            let (x, y) = (octets("x")?, octets("y")?);
            // "full size", zeros in front included. RFC 7518 §6.2.1.2
            if x.len() != curve.octets() || y.len() != curve.octets() {
                return Err(JwkError::Member);
            }
            KeyMaterial::Ec { curve, x, y }
        }
        Some("RSA") => KeyMaterial::Rsa { n: octets("n")?, e: octets("e")? },
        _ => return Err(JwkError::Kind),
    };
    if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err(JwkError::Private);
    }
    Ok(material)
}

/// Reads a key of a bundle, which has a `kid`.
///
/// # Errors
/// [`JwkError`].
pub fn token_key(jwk: &Map<String, Value>) -> Result<TokenKey, JwkError> {
    let material = material(jwk)?;
    let kid = jwk.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty());
    Ok(TokenKey { kid: kid.ok_or(JwkError::NoKid)?.into(), material })
}

/// The numbers of one of our own keys; `None` for a type that JOSE has no algorithm of SVIDs for.
#[must_use]
pub fn of_public(key: &PublicKey) -> Option<KeyMaterial> {
    let curve = match key.key_type() {
        KeyType::EcP256 => Curve::P256,
        KeyType::EcP384 => Curve::P384,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => return rsa(key.octets()),
        _ => return None,
    };
    let (x, y) = key.octets().split_first()?.1.split_at_checked(curve.octets())?;
    Some(KeyMaterial::Ec { curve, x: x.to_vec(), y: y.to_vec() })
}

/// An RSAPublicKey: SEQUENCE of modulus and exponent. RFC 8017 A.1.1. Its form was checked when it became a
/// [`PublicKey`]: lengths of two octets, a zero before the modulus, 65537 behind it.
fn rsa(der: &[u8]) -> Option<KeyMaterial> {
    let n = der.get(9..der.len().checked_sub(5)?)?;
    Some(KeyMaterial::Rsa { n: n.to_vec(), e: vec![1, 0, 1] })
}

/// The public members, and nothing else.
#[must_use]
pub fn members(material: &KeyMaterial) -> Map<String, Value> {
    let text = |octets: &[u8]| BASE64URL_NOPAD.encode(octets);
    let jwk = match material {
        KeyMaterial::Ec { curve, x, y } => {
            json!({ "kty": "EC", "crv": curve.as_str(), "x": text(x), "y": text(y) })
        }
        KeyMaterial::Rsa { n, e } => json!({ "kty": "RSA", "n": text(n), "e": text(e) }),
    };
    match jwk {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// The public members with the key's `kid`.
#[must_use]
pub fn named(key: &TokenKey) -> Map<String, Value> {
    let mut jwk = members(&key.material);
    jwk.insert("kid".to_owned(), (*key.kid).into());
    jwk
}

/// A key that a token names as its holder's: with the `alg` that WIT-SVID §3.2 asks for.
#[must_use]
pub fn with_algorithm(material: &KeyMaterial, algorithm: Algorithm) -> Map<String, Value> {
    let mut jwk = members(material);
    jwk.insert("alg".to_owned(), algorithm.as_str().into());
    jwk
}
