//! The trust bundle of a foreign trust domain, as its operator hands it over: PEM, or a SPIFFE bundle document.

use std::collections::HashSet;

use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value};

use super::document::Use;
use super::jwk::{self, JwkError};
use super::object::Object;
use crate::identity::{TokenKey, TokenKeys};
use crate::x509::inspect;

/// The most roots of one trust domain: more make every handshake of Envoy slower, and its list of CA names too long.
pub const MAX_ROOTS: usize = 128;

/// The most keys of tokens of one trust domain and kind: each token without a kid is tried with all of them.
pub const MAX_TOKEN_KEYS: usize = 64;

/// What a bundle document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleDocument {
    /// CA certificates, DER, each once, in the order of the document. None if the document has none: nobody is trusted by it
    /// then. Bundle §4.1.3.
    pub roots: Vec<CertificateDer<'static>>,
    /// Keys of tokens. None in PEM.
    pub tokens: TokenKeys,
    /// `spiffe_sequence`, where the document has one. SPIFFE Trust Domain and Bundle §4.1.1.
    pub sequence: Option<u64>,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not JSON, or a member of the wrong type, or one that stands there twice.
    #[error("not a SPIFFE bundle document: {0}")]
    Json(#[from] serde_json::Error),
    /// Not PEM.
    #[error("not PEM ({0}): paste the CERTIFICATE blocks of the roots, or a SPIFFE bundle document")]
    Pem(rustls_pki_types::pem::Error),
    /// Left out silently, it would not be enforced.
    #[error("a CRL stands among the roots: put X509 CRL blocks under crls")]
    Crl,
    /// The members are not what the standard says. Bundle §4.1.
    #[error("not a SPIFFE bundle document: {0}")]
    Member(&'static str),
    /// An X.509 key of the document carries no certificate that can be read. X509-SVID §6.1.
    #[error("key {0} of the document has an x5c that is not a base64 certificate")]
    X5c(usize),
    /// A key of tokens that must not be taken.
    #[error("key {0} of the document cannot be used")]
    Jwk(usize, #[source] JwkError),
    /// A certificate that cannot stand as a root.
    #[error("certificate {number} is not one that can be trusted as a root: {why}")]
    Root {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// PEM of nothing. A bundle document may say that nobody is trusted; a text without a certificate says nothing.
    #[error(
        "there is no certificate in it: paste the CERTIFICATE blocks of the roots, or a SPIFFE bundle document"
    )]
    Empty,
    /// Invariant 11.
    #[error("{0} roots: at most {MAX_ROOTS} are taken")]
    TooMany(usize),
    /// Invariant 11.
    #[error("{0} keys of tokens: at most {MAX_TOKEN_KEYS} of a kind are taken")]
    TooManyKeys(usize),
}

/// Reads a bundle: a SPIFFE bundle document if it begins as JSON does, else PEM.
///
/// # Errors
/// [`BundleError`]; a bundle is taken whole or not at all.
pub fn parse(text: &str) -> Result<BundleDocument, BundleError> {
    let (roots, tokens, sequence) = if text.trim_start().starts_with('{') {
        from_json(text)?
    } else {
        (from_pem(text)?, TokenKeys::default(), None)
    };
    let mut seen = HashSet::new();
    let roots: Vec<_> = roots.into_iter().filter(|root| seen.insert(root.as_ref().to_vec())).collect();
    if roots.len() > MAX_ROOTS {
        return Err(BundleError::TooMany(roots.len()));
    }
    for (n, root) in roots.iter().enumerate() {
        inspect::trust_anchor(root).map_err(|e| BundleError::Root { number: n + 1, why: e.to_string() })?;
    }
    Ok(BundleDocument { roots, tokens, sequence })
}

fn from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    if text.contains("-----BEGIN X509 CRL-----") {
        return Err(BundleError::Crl);
    }
    let roots = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    match roots.map_err(BundleError::Pem)? {
        roots if roots.is_empty() => Err(BundleError::Empty),
        roots => Ok(roots),
    }
}

type Read = (Vec<CertificateDer<'static>>, TokenKeys, Option<u64>);

fn from_json(text: &str) -> Result<Read, BundleError> {
    let Object(document) = serde_json::from_str(text)?;
    // Other members may be there. Bundle §4.1.
    let Some(Value::Array(keys)) = document.get("keys") else { return Err(BundleError::Member("no keys")) };
    let sequence = match document.get("spiffe_sequence") {
        None => None,
        Some(value) => {
            Some(value.as_u64().ok_or(BundleError::Member("spiffe_sequence is not a whole number"))?)
        }
    };
    let (mut roots, mut tokens) = (Vec::new(), TokenKeys::default());
    for (n, key) in keys.iter().enumerate() {
        let Value::Object(key) = key else { return Err(BundleError::Member("a key is not an object")) };
        // An unknown kty or use leaves the rest as good as it was, and `use` knows no upper case. Bundle §4.2.2.
        let known = matches!(key.get("kty").and_then(Value::as_str), Some("EC" | "RSA" | "OKP" | "AKP"));
        let r#use = key.get("use").and_then(Value::as_str).and_then(Use::parse);
        match r#use.filter(|_| known) {
            Some(Use::X509Svid) => roots.extend(root(key, n + 1)?),
            Some(Use::JwtSvid) => tokens.jwt.extend(token(key, n + 1)?),
            Some(Use::WitSvid) => tokens.wit.extend(token(key, n + 1)?),
            None => {}
        }
    }
    for keys in [&tokens.jwt, &tokens.wit] {
        if keys.len() > MAX_TOKEN_KEYS {
            return Err(BundleError::TooManyKeys(keys.len()));
        }
    }
    Ok((roots, tokens, sequence))
}

/// The first certificate; a key without one is passed over. X509-SVID §6.2.
fn root(key: &Map<String, Value>, number: usize) -> Result<Option<CertificateDer<'static>>, BundleError> {
    let x5c = match key.get("x5c") {
        None => return Ok(None),
        Some(Value::Array(x5c)) => x5c,
        Some(_) => return Err(BundleError::X5c(number)),
    };
    let Some(first) = x5c.first() else { return Ok(None) };
    let der = first.as_str().and_then(|text| BASE64.decode(text.as_bytes()).ok());
    der.map(|der| Some(CertificateDer::from(der))).ok_or(BundleError::X5c(number))
}

/// A key that cannot be used is passed over, unless somebody gave a private one away.
fn token(key: &Map<String, Value>, number: usize) -> Result<Option<TokenKey>, BundleError> {
    match jwk::token_key(key) {
        Ok(key) => Ok(Some(key)),
        Err(error @ JwkError::Private) => Err(BundleError::Jwk(number, error)),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.self_signed(&key).unwrap().der().clone()
    }

    fn jwk(root: &CertificateDer<'_>, r#use: &str) -> String {
        format!(r#"{{"kty":"EC","use":"{}","x5c":["{}"]}}"#, r#use, BASE64.encode(root))
    }

    #[test]
    fn a_document_gives_its_x509_roots_and_skips_what_it_does_not_know() {
        let (a, b) = (root("a"), root("b"));
        let text = format!(
            r#"{{"spiffe_sequence":7,"spiffe_refresh_hint":60,"other":[1],"keys":[{},{},{},{{"kty":"XX","use":"x509-svid"}},{{}}]}}"#,
            jwk(&a, "x509-svid"),
            jwk(&b, "jwt-svid"),
            jwk(&b, "X509-SVID"),
        );
        let document = parse(&text).unwrap();
        assert_eq!((document.roots, document.sequence), (vec![a], Some(7)));
    }

    #[test]
    fn a_document_may_say_that_nobody_is_trusted() {
        for text in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":[]}]}"#] {
            assert_eq!(parse(text).unwrap().roots, []);
        }
    }

    #[test]
    fn what_cannot_be_trusted_whole_is_refused() {
        let a = root("a");
        let good = jwk(&a, "x509-svid");
        let check = |text: &str, part: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("", "no certificate");
        check("{}", "no keys");
        check(&format!(r#"{{"keys":[{good}],"keys":[]}}"#), "twice");
        check(r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["!"]}]}"#, "key 1");
        check(r#"{"keys":[1]}"#, "not an object");
        check(r#"{"spiffe_sequence":-1,"keys":[]}"#, "whole number");
        check(
            &format!(
                r#"{{"keys":[{good},{{"kty":"EC","use":"jwt-svid","kid":"a","crv":"P-256","x":"{0}","y":"{0}","d":"{0}"}}]}}"#,
                "A".repeat(43)
            ),
            "key 2",
        );
        check(r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["AAAA"]}]}"#, "certificate 1");
        check("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "not PEM");
    }
}
