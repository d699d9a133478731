//! Generic secrets: a JWT-SVID that a proxy puts into a header.

use data_encoding::BASE64URL_NOPAD;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::GenericSecret;
use serde::Deserialize;
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::x509::Validity;

use super::{ALWAYS, CheckError, absent, inline};

/// The longest token. Envoy takes 60 KiB of headers in a request and many servers 8 KiB; one of ML-DSA-87 has 7.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1024;

#[derive(Deserialize)]
struct Claims {
    aud: Audiences,
    exp: u64,
    nbf: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

/// Envoy accepts any content, and then answers every request with 401, 431 or 503, or sends a broken header
/// (envoy-sds.md §1.5).
pub(super) fn check(generic: &GenericSecret, audience: &str) -> Result<Validity, CheckError> {
    let GenericSecret { secret, secrets } = generic;
    absent(secrets.is_empty())?;
    let token = inline(secret.as_ref().ok_or(CheckError::Source)?)?;
    // RFC 7515 §7.1: three parts in base64url. So it is safe in a header, too.
    let is_compact = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.".contains(octet);
    if token.len() > MAX_TOKEN_BYTES || !token.iter().all(is_compact) {
        return Err(CheckError::TokenText);
    }
    let parts: Vec<_> = token.split(|octet| *octet == b'.').collect();
    let [header, claims, signature] = parts.as_slice() else { return Err(CheckError::TokenClaims) };
    if header.is_empty() || signature.is_empty() {
        return Err(CheckError::TokenClaims);
    }
    let claims = BASE64URL_NOPAD.decode(claims).map_err(|_| CheckError::TokenClaims)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| CheckError::TokenClaims)?;
    let is_meant = match &claims.aud {
        Audiences::One(one) => one == audience,
        Audiences::Many(many) => many.iter().any(|one| one == audience),
    };
    if !is_meant {
        return Err(CheckError::TokenClaims);
    }
    Ok(Validity {
        not_before: claims.nbf.map_or(ALWAYS.not_before, Timestamp::from_unix_seconds),
        not_after: Timestamp::from_unix_seconds(claims.exp),
    })
}
