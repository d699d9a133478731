//! Tokens that say what a test wants them to say, signed with a key that the bundle has.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};
use spiffe_bridge::identity::{Curve, KeyMaterial, Revision, TokenKey, TokenKeys, TrustBundle};
use spiffe_bridge::jose::jws::{finish, signing_input};
use spiffe_bridge::jose::jwt_svid::{self, TokenError, Verified};
use spiffe_bridge::jose::{Algorithm, jwk};
use spiffe_bridge::keys::{KeyId, KeyManager, MemoryKeys};

use super::support::{NOW, domain};

pub(crate) const WEB: &str = "spiffe://example.org/web";
pub(crate) const AUDIENCE: &str = "reports";
pub(crate) const LEEWAY: Duration = Duration::from_secs(5);

/// A message → its signature.
type Sign = dyn Fn(&[u8]) -> Vec<u8>;

/// A key that signs tokens in one way.
pub(crate) struct Forge {
    sign: Box<Sign>,
    material: KeyMaterial,
    pub(crate) algorithm: Algorithm,
}

impl Forge {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let Some((key_type, scheme)) = algorithm.signing() else { return Self::on_p521() };
        let (keys, id): (_, KeyId) = (MemoryKeys::new(), "forge".parse().unwrap());
        let material = jwk::of_public(&keys.generate(&id, key_type).unwrap()).unwrap();
        let sign = Box::new(move |message: &[u8]| keys.sign(&id, scheme, message).unwrap());
        Self { sign, material, algorithm }
    }

    /// Nothing of ours makes such a key: it is another's.
    fn on_p521() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(66);
        let material = KeyMaterial::Ec { curve: Curve::P521, x: x.to_vec(), y: y.to_vec() };
        let sign = move |message: &[u8]| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        Self { sign: Box::new(sign), material, algorithm: Algorithm::Es512 }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        (self.sign)(message)
    }

    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn token_of(&self, header: &str, claims: &str) -> String {
        let mut text = signing_input(header.as_bytes(), claims.as_bytes());
        let signature = self.sign(text.as_bytes());
        finish(&mut text, &signature);
        text
    }

    pub(crate) fn key(&self, kid: &str) -> TokenKey {
        TokenKey { kid: kid.into(), material: self.material.clone() }
    }

    /// The key as a WIT-SVID names its holder's.
    pub(crate) fn jwk(&self) -> Map<String, Value> {
        jwk::with_algorithm(&self.material, self.algorithm)
    }

    /// A bundle of our domain in which this key, called `k`, verifies JWT-SVIDs.
    pub(crate) fn bundle(&self) -> TrustBundle {
        with(TokenKeys { jwt: vec![self.key("k")], wit: Vec::new() })
    }
}

pub(crate) fn with(tokens: TokenKeys) -> TrustBundle {
    TrustBundle::new(domain(), Vec::new(), Revision(1)).with_tokens(tokens)
}

/// A good JWT-SVID's header and claims.
pub(crate) fn good(algorithm: Algorithm) -> (Value, Value) {
    let header = json!({ "alg": algorithm.as_str(), "kid": "k", "typ": "JWT" });
    let claims = json!({ "sub": WEB, "aud": [AUDIENCE], "exp": NOW.unix_seconds() + 60 });
    (header, claims)
}

pub(crate) fn verify(token: &str, bundle: &TrustBundle) -> Result<Verified, TokenError> {
    let of = |domain: &_| (bundle.trust_domain == *domain).then_some(bundle);
    jwt_svid::verify(token, AUDIENCE, of, NOW, LEEWAY)
}

/// What becomes of a good JWT-SVID once `change` was made to header and claims.
pub(crate) fn changed(change: impl FnOnce(&mut Value, &mut Value)) -> Result<Verified, TokenError> {
    let forge = Forge::new(Algorithm::Es256);
    let (mut header, mut claims) = good(forge.algorithm);
    let bundle = forge.bundle();
    verify(&forge.token(&header, &claims), &bundle).expect("unchanged, it is good");
    change(&mut header, &mut claims);
    verify(&forge.token(&header, &claims), &bundle)
}

/// A part of a token, read.
pub(crate) fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

#[track_caller]
pub(crate) fn assert_is<T: std::fmt::Debug>(result: Result<T, TokenError>, part: &str) {
    let error = result.expect_err("it is refused").to_string();
    assert!(error.contains(part), "{error}");
}
