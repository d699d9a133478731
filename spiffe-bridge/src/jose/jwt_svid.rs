//! JWT-SVIDs: what they say, and whether one is good. JWT-SVID.md.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use spiffe::{SpiffeId, TrustDomain};

use super::Algorithm;
use super::jws::{Jws, JwsError};
use crate::clock::Timestamp;
use crate::identity::{IdError, TokenKey, TrustBundle, parse_workload_id, text_of};

/// What a JWT-SVID is to say.
#[derive(Debug)]
pub struct Content<'a> {
    /// Whom it names.
    pub spiffe_id: &'a SpiffeId,
    /// Whom it is for; at least one.
    pub audience: &'a [String],
    /// When it is issued.
    pub issued: Timestamp,
    /// From when on it is not valid any more.
    pub expires: Timestamp,
    /// `jti`: names it in the audit log.
    pub token_id: &'a str,
}

impl Content<'_> {
    /// Its claims, JSON.
    #[must_use]
    pub fn claims(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(USUAL_CLAIMS);
        let claims = Claims {
            aud: self.audience,
            exp: self.expires.unix_seconds(),
            iat: self.issued.unix_seconds(),
            jti: self.token_id,
            sub: &text_of(self.spiffe_id),
        };
        // Text and numbers always serialise; a token without claims would be nobody's.
        if serde_json::to_writer(&mut json, &claims).is_err() {
            json.clear();
        }
        json
    }
}

/// Most claims are shorter.
const USUAL_CLAIMS: usize = 256;

/// A type and not a `json!`: there are thousands a second of them.
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a [String],
    exp: u64,
    iat: u64,
    jti: &'a str,
    sub: &'a str,
}

/// The header, JSON: these three members and no other (JWT-SVID §2).
#[must_use]
pub fn header(algorithm: Algorithm, kid: &str) -> Vec<u8> {
    json!({ "alg": algorithm.as_str(), "kid": kid, "typ": "JWT" }).to_string().into_bytes()
}

/// A JWT-SVID that was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// All that it says.
    pub claims: Map<String, Value>,
}

/// Why a token is not taken. Says what is wrong, and never what the token says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It cannot be read.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// JWT-SVID §2.3, WIT-SVID §2.2.
    #[error("the token's typ is {0}")]
    Type(&'static str),
    /// JWT-SVID §3.1.
    #[error("the token's sub is not the SPIFFE ID of a workload")]
    Subject(#[source] Option<IdError>),
    /// Workload API §6.3.
    #[error("no bundle of the token's trust domain is known, so that it is not trusted")]
    NoBundle,
    /// WIT-SVID §2.1.
    #[error("the token has no kid")]
    NoKid,
    /// No key of the bundle, or none of this kind, verifies it.
    #[error("no key of its trust domain verifies the token")]
    Signature,
    /// JWT-SVID §3.2.
    #[error("the token is for another audience, or for none")]
    Audience,
    /// JWT-SVID §3.3.
    #[error("the token has no exp that is a number")]
    NoExpiry,
    /// RFC 7519 §4.1.4.
    #[error("the token has expired")]
    Expired,
    /// RFC 7519 §4.1.5.
    #[error("the token is not valid yet")]
    NotYet,
    /// WIT-SVID §3.2.
    #[error("the token's cnf names no public key that it could be proved with")]
    Confirmation,
    /// WIT-SVID §4.
    #[error("the proof was not made with the key that the token names")]
    Proof,
}

/// Judges `token` for `audience`. `bundle` gives the bundle of a trust domain, if there is one that the caller may
/// trust: only that of the token's own is looked at.
///
/// # Errors
/// [`TokenError`].
pub fn verify<'b>(
    token: &str,
    audience: &str,
    bundle: impl FnOnce(&TrustDomain) -> Option<&'b TrustBundle>,
    now: Timestamp,
    leeway: Duration,
) -> Result<Verified, TokenError> {
    let jws = Jws::parse(token)?;
    if !matches!(jws.typ.as_ref().map(Value::as_str), None | Some(Some("JWT" | "JOSE"))) {
        return Err(TokenError::Type("neither JWT nor JOSE"));
    }
    let spiffe_id = subject(&jws)?;
    let bundle = bundle(spiffe_id.trust_domain()).ok_or(TokenError::NoBundle)?;
    // A kid picks the key; without one each may be it. JWT-SVID §2.2.
    let keys = bundle.tokens.jwt.iter();
    let mut keys = keys.filter(|key| jws.kid.as_deref().is_none_or(|kid| *key.kid == *kid));
    if !keys.any(|key| is_signed(&jws, key)) {
        return Err(TokenError::Signature);
    }
    let claims = &jws.claims.0;
    if !is_for(claims.get("aud"), audience) {
        return Err(TokenError::Audience);
    }
    check_times(claims, now, leeway)?;
    Ok(Verified { spiffe_id, claims: jws.claims.0 })
}

pub(super) fn is_signed(jws: &Jws<'_>, key: &TokenKey) -> bool {
    jws.algorithm.verifies(&key.material, jws.signed(), jws.signature())
}

pub(super) fn subject(jws: &Jws<'_>) -> Result<SpiffeId, TokenError> {
    let sub = jws.claims.0.get("sub").and_then(Value::as_str).ok_or(TokenError::Subject(None))?;
    parse_workload_id(sub).map_err(|error| TokenError::Subject(Some(error)))
}

/// A text, or a list of texts, one of which is `audience`. RFC 7519 §4.1.3.
fn is_for(aud: Option<&Value>, audience: &str) -> bool {
    match aud {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => {
            all.iter().all(Value::is_string) && all.iter().any(|one| one.as_str() == Some(audience))
        }
        _ => false,
    }
}

/// `exp` is there and not past, `nbf` not in the future. RFC 7519 §2: a NumericDate may have a fraction.
pub(super) fn check_times(
    claims: &Map<String, Value>,
    now: Timestamp,
    leeway: Duration,
) -> Result<(), TokenError> {
    let now = now.unix_millis() as f64 / 1000.0;
    let leeway = leeway.as_secs_f64();
    let expires = claims.get("exp").and_then(Value::as_f64).ok_or(TokenError::NoExpiry)?;
    // "on or after which the JWT MUST NOT be accepted". JSON has no NaN.
    if now >= expires + leeway {
        return Err(TokenError::Expired);
    }
    match claims.get("nbf").map(Value::as_f64) {
        None => Ok(()),
        Some(Some(begins)) if begins <= now + leeway => Ok(()),
        Some(_) => Err(TokenError::NotYet),
    }
}
