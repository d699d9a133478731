//! The compact serialisation of JWS: three parts in base64url, and no other form. RFC 7515 §7.1.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

use super::Algorithm;
use super::object::Object;

/// The longest token that is read, in bytes. The longest SPIFFE ID and some audiences take 6 KB.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// Why a text is no token of ours to judge. What it says is never repeated: it is a stranger's, and may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// Invariant 11.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// Not three parts of base64url without padding. JWT-SVID §5.1.
    #[error("not a compact JWS: three parts of base64url, parted by dots, are expected")]
    NotCompact,
    /// The header is not a JSON object whose members stand once each.
    #[error("the token's header cannot be read")]
    Header,
    /// The claims are not a JSON object whose members stand once each.
    #[error("the token's claims cannot be read")]
    Claims,
    /// JWT-SVID §2.1, WIT-SVID §2.3.
    #[error("the token's alg is not one of SVIDs (RS, ES or PS with 256, 384 or 512)")]
    Algorithm,
    /// RFC 7515 §4.1.11: what must be understood and is not.
    #[error("the token's header names extensions (crit), and none is known here")]
    Critical,
}

/// A token that could be read, and is not verified.
#[derive(Debug)]
pub struct Jws<'t> {
    /// How it says that it is signed.
    pub algorithm: Algorithm,
    /// `kid` of the header, if it is a text.
    pub kid: Option<String>,
    /// `typ` of the header; `None` if it is not there.
    pub typ: Option<Value>,
    /// The claims.
    pub claims: Object,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Reads `token`. Its `alg` is judged before anything else of it is looked at. JW-04.
    ///
    /// # Errors
    /// [`JwsError`].
    pub fn parse(token: &'t str) -> Result<Self, JwsError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwsError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwsError::NotCompact)?;
        let (header, claims) = signed.split_once('.').ok_or(JwsError::NotCompact)?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| JwsError::NotCompact);
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let Object(mut header) = serde_json::from_slice(&header).map_err(|_| JwsError::Header)?;
        let algorithm = header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm.and_then(|text| text.parse().ok()).ok_or(JwsError::Algorithm)?;
        if header.contains_key("crit") {
            return Err(JwsError::Critical);
        }
        let kid = match header.remove("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid),
            Some(_) => return Err(JwsError::Header), // RFC 7515 §4.1.4: a string
        };
        let claims = serde_json::from_slice(&claims).map_err(|_| JwsError::Claims)?;
        Ok(Self { algorithm, kid, typ: header.remove("typ"), claims, signed, signature })
    }

    /// The octets that are signed.
    #[must_use]
    pub fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    /// The signature over them.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// What is to be signed of a token with this header and these claims, both JSON.
#[must_use]
pub fn signing_input(header: &[u8], claims: &[u8]) -> String {
    // Room for the signature too: it is put behind.
    let mut text = String::with_capacity((header.len() + claims.len()) * 4 / 3 + 96);
    BASE64URL_NOPAD.encode_append(header, &mut text);
    text.push('.');
    BASE64URL_NOPAD.encode_append(claims, &mut text);
    text
}

/// Puts the signature behind what was signed.
pub fn finish(input: &mut String, signature: &[u8]) {
    input.push('.');
    BASE64URL_NOPAD.encode_append(signature, input);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        let mut text = signing_input(header.as_bytes(), b"{}");
        finish(&mut text, &[1, 2, 3]);
        text
    }

    #[test]
    fn what_was_written_is_read() {
        let text = token(r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#);
        let read = Jws::parse(&text).unwrap();
        assert_eq!((read.algorithm, read.kid.as_deref()), (Algorithm::Es256, Some("k")));
        assert_eq!((read.typ.as_ref().unwrap(), read.signature()), (&Value::from("JWT"), &[1, 2, 3][..]));
        assert!(text.as_bytes().starts_with(read.signed()));
    }

    #[test]
    fn what_is_no_compact_token_is_refused() {
        let check = |text: &str, expected| assert_eq!(Jws::parse(text).unwrap_err(), expected, "{text}");
        let good = token(r#"{"alg":"ES256"}"#);
        Jws::parse(&good).unwrap();
        for bad in ["", ".", "..", "a.b", &format!("{good}."), &format!("{good}="), &format!(" {good}")] {
            assert!(Jws::parse(bad).is_err(), "{bad}");
        }
        check(&good.replacen('.', "..", 1), JwsError::NotCompact);
        check(r#"{"payload":"e30","signatures":[]}"#, JwsError::NotCompact);
        check(&"a".repeat(MAX_TOKEN_BYTES + 1), JwsError::TooLong);
        check(&token("[]"), JwsError::Header);
        check(&token(r#"{"alg":"ES256","alg":"none"}"#), JwsError::Header);
        check(&token(r#"{"alg":"ES256","kid":1}"#), JwsError::Header);
        check(&token(r#"{"alg":"ES256","crit":["b64"]}"#), JwsError::Critical);
    }
}
