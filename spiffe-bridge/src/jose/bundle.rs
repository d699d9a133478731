//! The trust bundle of a foreign trust domain, as its operator hands it over: PEM, or a SPIFFE bundle document.

use std::collections::HashSet;
use std::fmt;

use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::x509::inspect;

/// The most roots of one trust domain: more make every handshake of Envoy slower, and its list of CA names too long.
pub const MAX_ROOTS: usize = 128;

/// What a bundle document says of X.509.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleDocument {
    /// CA certificates, DER, each once, in the order of the document. Never empty.
    pub roots: Vec<CertificateDer<'static>>,
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
    /// An X.509 key of the document carries other than one certificate. X509-SVID §6.1.
    #[error("key {0} of the document has no x5c with exactly one base64 certificate")]
    X5c(usize),
    /// A certificate that cannot stand as a root.
    #[error("certificate {number} is not one that can be trusted as a root: {why}")]
    Root {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing that X.509 could use. Bundle §4.1.3.
    #[error("there is no X.509 root in it: at least one is needed")]
    Empty,
    /// Invariant 11.
    #[error("{0} roots: at most {MAX_ROOTS} are taken")]
    TooMany(usize),
}

/// Reads a bundle: a SPIFFE bundle document if it begins as JSON does, else PEM.
///
/// # Errors
/// [`BundleError`]; a bundle is taken whole or not at all.
pub fn parse(text: &str) -> Result<BundleDocument, BundleError> {
    let (roots, sequence) =
        if text.trim_start().starts_with('{') { from_json(text)? } else { (from_pem(text)?, None) };
    let mut seen = HashSet::new();
    let roots: Vec<_> = roots.into_iter().filter(|root| seen.insert(root.as_ref().to_vec())).collect();
    if roots.is_empty() {
        return Err(BundleError::Empty);
    }
    if roots.len() > MAX_ROOTS {
        return Err(BundleError::TooMany(roots.len()));
    }
    for (n, root) in roots.iter().enumerate() {
        inspect::trust_anchor(root).map_err(|e| BundleError::Root { number: n + 1, why: e.to_string() })?;
    }
    Ok(BundleDocument { roots, sequence })
}

fn from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(BundleError::Pem)
}

fn from_json(text: &str) -> Result<(Vec<CertificateDer<'static>>, Option<u64>), BundleError> {
    let document: Document = serde_json::from_str(text)?;
    let mut roots = Vec::new();
    for (n, key) in document.keys.iter().enumerate() {
        // An unknown kty or use leaves the rest as good as it was, and `use` knows no upper case. Bundle §4.2.2.
        let known = matches!(key.kty.as_deref(), Some("EC" | "RSA" | "OKP" | "AKP"));
        if !known || key.r#use.as_deref() != Some("x509-svid") {
            continue;
        }
        let [certificate] = key.x5c.as_slice() else { return Err(BundleError::X5c(n + 1)) };
        let der = BASE64.decode(certificate.as_bytes()).map_err(|_| BundleError::X5c(n + 1))?;
        roots.push(CertificateDer::from(der));
    }
    Ok((roots, document.spiffe_sequence))
}

/// The members that are read; the others may be there. Bundle §4.1.
struct Document {
    keys: Vec<Jwk>,
    spiffe_sequence: Option<u64>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    r#use: Option<String>,
    #[serde(default)]
    x5c: Vec<String>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

/// Reads the members one by one: serde's own way takes the last of two with one name. Bundle §6.3.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with the member keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        use serde::de::Error as _;
        let (mut keys, mut spiffe_sequence, mut seen) = (None, None, HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "keys" => keys = Some(map.next_value()?),
                "spiffe_sequence" => spiffe_sequence = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("member {name:?} stands there twice")));
            }
        }
        let keys = keys.ok_or_else(|| A::Error::missing_field("keys"))?;
        Ok(Document { keys, spiffe_sequence })
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
    fn what_cannot_be_trusted_whole_is_refused() {
        let a = root("a");
        let good = jwk(&a, "x509-svid");
        let check = |text: &str, part: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("", "no X.509 root");
        check("{\"keys\":[]}", "no X.509 root");
        check("{}", "missing field `keys`");
        check(&format!(r#"{{"keys":[{good}],"keys":[]}}"#), "twice");
        check(r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":[]}]}"#, "key 1");
        check(r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["AAAA"]}]}"#, "certificate 1");
        check("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "not PEM");
    }
}
