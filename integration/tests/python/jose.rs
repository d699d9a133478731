//! Two JOSE implementations take what we take, and refuse what we refuse.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::identity::{Revision, TokenKey, TokenKeys, TrustBundle, TrustDomain};
use spiffe_bridge::jose::document::{Use, jwk_set};
use spiffe_bridge::jose::jws::{finish, signing_input};
use spiffe_bridge::jose::{Algorithm, jwk, jwt_svid};
use spiffe_bridge::keys::{KeyId, KeyManager, MemoryKeys};

use super::{WEB, python, said};

/// What `script` prints when it reads `input`.
pub(super) fn answer(script: &str, input: &Value) -> Value {
    let mut script = python(script);
    let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut script = script.spawn().unwrap();
    script.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    said(&script.wait_with_output().unwrap())
}

/// What joserfc and PyJWT make of each of the tokens, under these keys; without an audience none may have one.
pub(super) fn judged(jwks: &Value, audience: Option<&str>, now: Timestamp, tokens: &[String]) -> Value {
    let asked = json!({
        "jwks": jwks,
        "audience": audience,
        "now": now.unix_seconds(),
        "algorithms": Algorithm::ALL.map(Algorithm::as_str),
        "tokens": tokens,
    });
    answer("judge.py", &asked)
}

/// A key that signs in one way, and the bundle in which it is called `k`.
struct Issuer(MemoryKeys, KeyId, Algorithm);

impl Issuer {
    fn new(algorithm: Algorithm) -> Self {
        let (keys, id): (_, KeyId) = (MemoryKeys::new(), "k".parse().unwrap());
        keys.generate(&id, algorithm.signing().unwrap().0).unwrap();
        Self(keys, id, algorithm)
    }

    fn key(&self) -> TokenKey {
        let material = jwk::of_public(&self.0.public(&self.1).unwrap()).unwrap();
        TokenKey { kid: "k".into(), material }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let mut text = signing_input(header.to_string().as_bytes(), claims.to_string().as_bytes());
        let signature = self.0.sign(&self.1, self.2.signing().unwrap().1, text.as_bytes()).unwrap();
        finish(&mut text, &signature);
        text
    }
}

/// Tokens as they should be, and as they should not.
fn tokens(issuer: &Issuer, now: u64) -> Vec<String> {
    let good = json!({ "sub": WEB, "aud": ["reports"], "exp": now + 600 });
    let header = json!({ "alg": issuer.2.as_str(), "kid": "k", "typ": "JWT" });
    let with = |change: &dyn Fn(&mut Value, &mut Value)| {
        let (mut header, mut claims) = (header.clone(), good.clone());
        change(&mut header, &mut claims);
        issuer.token(&header, &claims)
    };
    let token = with(&|_, _| {});
    let parts: Vec<_> = token.split('.').collect();
    let none = data_encoding::BASE64URL_NOPAD.encode(br#"{"alg":"none","kid":"k"}"#);
    let mut tokens = vec![
        token.clone(),
        with(&|_, claims| claims["aud"] = json!("reports")),
        with(&|_, claims| claims["aud"] = json!(["billing", "reports"])),
        with(&|_, claims| claims["colour"] = json!("blue")),
        // And those that nobody should take.
        with(&|_, claims| claims["aud"] = json!("billing")),
        with(&|_, claims| claims["aud"] = json!([])),
        with(&|_, claims| drop(claims.as_object_mut().unwrap().remove("aud"))),
        with(&|_, claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        with(&|_, claims| drop(claims.as_object_mut().unwrap().remove("sub"))),
        with(&|_, claims| claims["exp"] = json!(now - 600)),
        with(&|_, claims| claims["nbf"] = json!(now + 600)),
        with(&|header, _| header["kid"] = json!("other")),
        with(&|header, _| header["crit"] = json!(["b64"])),
        Issuer::new(issuer.2).token(&header, &good),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        String::new(),
    ];
    for alg in ["HS256", "none", "ES384", "RS256", "PS512", "ES256"]
        .into_iter()
        .filter(|alg| *alg != issuer.2.as_str())
    {
        tokens.push(with(&|header, _| header["alg"] = json!(alg)));
    }
    tokens
}

#[test]
fn other_implementations_of_jose_take_what_we_take_and_refuse_what_we_refuse() {
    let now = Clock::system().now();
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.signing().is_some()) {
        let issuer = Issuer::new(algorithm);
        let keys = TokenKeys { jwt: vec![issuer.key()], wit: Vec::new() };
        let domain = TrustDomain::new("example.org").unwrap();
        let bundle = TrustBundle::new(domain, Vec::new(), Revision(1)).with_tokens(keys);
        let tokens = tokens(&issuer, now.unix_seconds());
        let ours: Vec<bool> = tokens
            .iter()
            .map(|token| {
                let verified =
                    jwt_svid::verify(token, "reports", |_| Some(&bundle), now, std::time::Duration::ZERO);
                verified.is_ok()
            })
            .collect();
        assert_eq!(ours.iter().filter(|taken| **taken).count(), 4, "{algorithm}: {ours:?}");
        let jwks: Value = serde_json::from_str(&jwk_set(&bundle.tokens.jwt, Use::JwtSvid)).unwrap();
        let theirs = judged(&jwks, Some("reports"), now, &tokens);
        for (n, taken) in ours.iter().enumerate() {
            assert_eq!(theirs[n], json!([taken, taken]), "{algorithm}, token {n}: {}", tokens[n]);
        }
    }
}
