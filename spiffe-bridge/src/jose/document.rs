//! Trust bundles as documents: JWK Sets for the Workload API, and the SPIFFE bundle document. SPIFFE Trust Domain and
//! Bundle §4.

use std::time::Duration;

use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use super::jwk;
use crate::identity::{TokenKey, TrustBundle};
use crate::keys::{KeyType, PublicKey};
use crate::x509::inspect;

/// `use` of a key: what it verifies, and nothing else does it verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Roots of X509-SVIDs. X509-SVID §6.1.
    X509Svid,
    /// Keys of JWT-SVIDs. JWT-SVID §6.1.
    JwtSvid,
    /// Keys of WIT-SVIDs. WIT-SVID §6.1.
    WitSvid,
}

impl Use {
    /// How it is written; it knows no upper case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X509Svid => "x509-svid",
            Self::JwtSvid => "jwt-svid",
            Self::WitSvid => "wit-svid",
        }
    }

    /// What `text` says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::X509Svid, Self::JwtSvid, Self::WitSvid].into_iter().find(|known| known.as_str() == text)
    }
}

/// A JWK Set of `keys` for one use: what `FetchJWTBundles` and `FetchWITBundles` carry.
#[must_use]
pub fn jwk_set(keys: &[TokenKey], r#use: Use) -> String {
    json!({ "keys": keys.iter().map(|key| token(key, r#use)).collect::<Vec<_>>() }).to_string()
}

/// The SPIFFE bundle document of `bundle`, with `sequence`, which rises with every change, and when to come again.
#[must_use]
pub fn bundle(bundle: &TrustBundle, sequence: u64, refresh: Duration) -> String {
    let x509 = bundle.roots.iter().filter_map(root);
    let jwt = bundle.tokens.jwt.iter().map(|key| token(key, Use::JwtSvid));
    let wit = bundle.tokens.wit.iter().map(|key| token(key, Use::WitSvid));
    let keys: Vec<_> = x509.chain(jwt).chain(wit).collect();
    json!({ "keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": refresh.as_secs() }).to_string()
}

fn token(key: &TokenKey, r#use: Use) -> Value {
    let mut jwk = jwk::named(key);
    jwk.insert("use".to_owned(), r#use.as_str().into());
    Value::Object(jwk)
}

/// A root: its certificate, and its key beside it where JOSE has a form for it. No kid: X509-SVID §6.1.
fn root(root: &CertificateDer<'static>) -> Option<Value> {
    let key = inspect::ca(root).ok()?.public_key;
    let mut jwk = match jwk::of_public(&key) {
        Some(material) => jwk::members(&material),
        // RFC 9964 and RFC 8037 call them so; the certificate is what counts.
        None => serde_json::Map::from_iter([("kty".to_owned(), other_kind(&key).into())]),
    };
    jwk.insert("use".to_owned(), Use::X509Svid.as_str().into());
    jwk.insert("x5c".to_owned(), json!([BASE64.encode(root)]));
    Some(Value::Object(jwk))
}

fn other_kind(key: &PublicKey) -> &'static str {
    match key.key_type() {
        KeyType::Ed25519 => "OKP",
        _ => "AKP",
    }
}
