//! WIT-SVIDs: tokens that name a key, and are nothing without a proof of it. WIT-SVID.md, incubating.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};
use spiffe::{SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use super::jws::Jws;
use super::jwt_svid::{TokenError, check_times, is_signed, subject};
use super::{Algorithm, jwk};
use crate::clock::Timestamp;
use crate::identity::{KeyMaterial, TokenSvid, TrustBundle};
use crate::keys::workload;

/// The commit of the standard that this follows: it is not stable yet. STABILITY §2.3.
pub const STANDARD: &str = "665a28f";

/// What a WIT-SVID is to say.
#[derive(Debug)]
pub struct Content<'a> {
    /// Whom it names.
    pub spiffe_id: &'a SpiffeId,
    /// The public key of its holder, and the algorithm that the holder proves it with.
    pub key: (&'a KeyMaterial, Algorithm),
    /// When it is issued.
    pub issued: Timestamp,
    /// From when on it is valid: earlier, for peers whose clocks are slow.
    pub begins: Timestamp,
    /// From when on it is not valid any more.
    pub expires: Timestamp,
    /// `jti`: names it in the audit log.
    pub token_id: &'a str,
}

impl Content<'_> {
    /// Its claims, JSON. No `aud` (§3.8: it is not for one audience), no `iss` (§3.7: nobody is to take it for an ID token).
    #[must_use]
    pub fn claims(&self) -> Vec<u8> {
        let (material, algorithm) = self.key;
        let claims = json!({
            "sub": self.spiffe_id.to_string(),
            "cnf": { "jwk": jwk::with_algorithm(material, algorithm) },
            "exp": self.expires.unix_seconds(),
            "iat": self.issued.unix_seconds(),
            "nbf": self.begins.unix_seconds(),
            "jti": self.token_id,
        });
        claims.to_string().into_bytes()
    }
}

/// The holder's key as a JWK, private part included, for whoever the token was issued to: what the token names, and `d`.
/// `None` if the token is not one of ours or the key not its own.
#[must_use]
pub fn expose_holder_jwk(svid: &TokenSvid) -> Option<Zeroizing<String>> {
    let number = workload::expose_p256_number(svid.key.as_ref()?)?;
    let jws = Jws::parse(svid.token.expose_text()).ok()?;
    let public = jws.claims.0.get("cnf")?.get("jwk")?.as_object()?;
    let text = |name: &str| public.get(name).and_then(Value::as_str);
    let (x, y, alg) = (text("x")?, text("y")?, text("alg")?);
    let d = Zeroizing::new(BASE64URL_NOPAD.encode(&number));
    // Written at once, so that no copy of the key is left behind: nothing in it needs to be escaped.
    let mut jwk = Zeroizing::new(String::with_capacity(256));
    for part in [
        r#"{"kty":"EC","crv":"P-256","alg":""#,
        alg,
        r#"","x":""#,
        x,
        r#"","y":""#,
        y,
        r#"","d":""#,
        &d,
        r#""}"#,
    ] {
        jwk.push_str(part);
    }
    Some(jwk)
}

/// The header, JSON.
#[must_use]
pub fn header(algorithm: Algorithm, kid: &str) -> Vec<u8> {
    json!({ "alg": algorithm.as_str(), "kid": kid, "typ": "wit+jwt" }).to_string().into_bytes()
}

/// A WIT-SVID that is genuine, shown by somebody who has not proved that it is theirs. It names nobody yet: §4.
#[derive(Debug)]
#[must_use = "a WIT-SVID without a proof of possession authenticates nobody"]
pub struct Unproven {
    spiffe_id: SpiffeId,
    claims: Map<String, Value>,
    key: KeyMaterial,
    algorithm: Algorithm,
}

/// A WIT-SVID whose holder has proved to have its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// All that it says.
    pub claims: Map<String, Value>,
}

/// Judges `token`; `bundle` is as in [`super::jwt_svid::verify`].
///
/// # Errors
/// [`TokenError`].
pub fn verify<'b>(
    token: &str,
    bundle: impl FnOnce(&TrustDomain) -> Option<&'b TrustBundle>,
    now: Timestamp,
    leeway: Duration,
) -> Result<Unproven, TokenError> {
    let jws = Jws::parse(token)?;
    if jws.typ.as_ref().and_then(Value::as_str) != Some("wit+jwt") {
        return Err(TokenError::Type("not wit+jwt"));
    }
    let kid = jws.kid.as_deref().ok_or(TokenError::NoKid)?;
    let spiffe_id = subject(&jws)?;
    let bundle = bundle(spiffe_id.trust_domain()).ok_or(TokenError::NoBundle)?;
    if !bundle.tokens.wit.iter().any(|key| *key.kid == *kid && is_signed(&jws, key)) {
        return Err(TokenError::Signature);
    }
    let (key, algorithm) = confirmation(&jws.claims.0).ok_or(TokenError::Confirmation)?;
    check_times(&jws.claims.0, now, leeway)?;
    Ok(Unproven { spiffe_id, claims: jws.claims.0, key, algorithm })
}

/// The holder's key: public members alone, and one of the nine algorithms. §3.2.
fn confirmation(claims: &Map<String, Value>) -> Option<(KeyMaterial, Algorithm)> {
    let jwk = claims.get("cnf")?.get("jwk")?.as_object()?;
    let algorithm = jwk.get("alg")?.as_str()?.parse().ok()?;
    Some((jwk::material(jwk).ok()?, algorithm))
}

impl Unproven {
    /// Takes a proof: `signature` over `message`, made with the key that the token names. What the message must say, and
    /// for how long it counts, is the protocol's in which it came (WIMSE's proof token, or HTTP signatures).
    ///
    /// # Errors
    /// [`TokenError::Proof`].
    pub fn prove(self, message: &[u8], signature: &[u8]) -> Result<Proven, TokenError> {
        if !self.algorithm.verifies(&self.key, message, signature) {
            return Err(TokenError::Proof);
        }
        Ok(Proven { spiffe_id: self.spiffe_id, claims: self.claims })
    }
}
