//! Rows WI: what our WIT-SVIDs say, and which are taken.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use spiffe_bridge::authority::{Config, IssuedToken, TokenContent, TokenRequest};
use spiffe_bridge::identity::{SpiffeId, TokenKeys, TrustBundle};
use spiffe_bridge::jose::Algorithm;
use spiffe_bridge::jose::document::{Use, jwk_set};
use spiffe_bridge::jose::jwt_svid::TokenError;
use spiffe_bridge::jose::wit_svid::{self, Unproven};
use spiffe_bridge::keys::{KeyType, workload};

use super::forge::{self, Forge, LEEWAY, WEB, assert_is, part, with};
use super::support::{Ca, NOW, ca, ca_at, domain};

async fn issue(ca: &Ca, key_type: KeyType) -> Result<IssuedToken, spiffe_bridge::authority::SignError> {
    let public_key = workload::generate(key_type).unwrap().public;
    let content = TokenContent::Wit { public_key };
    let request = TokenRequest { spiffe_id: SpiffeId::new(WEB).unwrap(), content, lifetime: None };
    ca.authority.sign_token(request).await
}

async fn ours() -> (Ca, String) {
    let ca = ca().await;
    let token = issue(&ca, KeyType::EcP256).await.unwrap().token.expose_text().to_owned();
    (ca, token)
}

fn verify(token: &str, bundle: &TrustBundle) -> Result<Unproven, TokenError> {
    let of = |domain: &_| (bundle.trust_domain == *domain).then_some(bundle);
    wit_svid::verify(token, of, NOW, LEEWAY)
}

/// A good WIT-SVID's header and claims, for the key of `holder`.
fn good(holder: &Forge) -> (Value, Value) {
    let header = json!({ "alg": "ES256", "kid": "k", "typ": "wit+jwt" });
    let claims = json!({ "sub": WEB, "exp": NOW.unix_seconds() + 60, "cnf": { "jwk": holder.jwk() } });
    (header, claims)
}

fn bundle(issuer: &Forge) -> TrustBundle {
    with(TokenKeys { jwt: Vec::new(), wit: vec![issuer.key("k")] })
}

fn changed(change: impl FnOnce(&mut Value, &mut Value)) -> Result<Unproven, TokenError> {
    let (issuer, holder) = (Forge::new(Algorithm::Es256), Forge::new(Algorithm::Es256));
    let (mut header, mut claims) = good(&holder);
    let _ = verify(&issuer.token(&header, &claims), &bundle(&issuer)).expect("unchanged, it is good");
    change(&mut header, &mut claims);
    verify(&issuer.token(&header, &claims), &bundle(&issuer))
}

fn without(value: &mut Value, member: &str) {
    value.as_object_mut().unwrap().remove(member).expect("it was there");
}

fn members(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { panic!("{value}") };
    members
}

#[tokio::test]
async fn wi_01_the_kid_is_there() {
    let (ca, token) = ours().await;
    assert!(part(&token, 0)["kid"].is_string());
    let _ = verify(&token, &ca.bundle).unwrap();
    assert_is(changed(|header, _| without(header, "kid")), "kid");
}

#[test]
fn wi_02_the_kid_is_compared_letter_for_letter() {
    for kid in ["K", "k ", "", "kk"] {
        assert_is(changed(|header, _| header["kid"] = json!(kid)), "no key");
    }
    assert_is(changed(|header, _| header["kid"] = json!(1)), "header");
}

#[tokio::test]
async fn wi_03_each_key_has_a_kid_of_its_own() {
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let (ca, _) = ours().await;
        for key in ca.bundle.tokens.jwt.iter().chain(&ca.bundle.tokens.wit) {
            assert!(seen.insert(key.kid.clone()));
        }
    }
}

#[tokio::test]
async fn wi_04_the_typ_is_wit_jwt() {
    let (_ca, token) = ours().await;
    assert_eq!(part(&token, 0)["typ"], "wit+jwt");
    assert_is(changed(|header, _| without(header, "typ")), "typ");
    for typ in ["WIT+JWT", "JWT", "jwt", ""] {
        assert_is(changed(|header, _| header["typ"] = json!(typ)), "typ");
    }
}

#[tokio::test]
async fn wi_05_each_of_the_nine_algorithms_is_verified_and_each_that_can_be_chosen_is_issued() {
    let mut issued_in = 0;
    for algorithm in Algorithm::ALL {
        let issuer = Forge::new(algorithm);
        let (mut header, claims) = good(&issuer);
        header["alg"] = json!(algorithm.as_str());
        let _ = verify(&issuer.token(&header, &claims), &bundle(&issuer)).unwrap();
        if algorithm.signing().is_none() {
            continue;
        }
        // Unlike that of JWT-SVIDs, so that the one is not taken for the other.
        let jwt_algorithm = if algorithm == Algorithm::Es256 { Algorithm::Es384 } else { Algorithm::Es256 };
        let config = Config { wit_algorithm: algorithm, jwt_algorithm, ..Config::new(domain()) };
        let ca = ca_at(NOW, config).await;
        let issued = issue(&ca, KeyType::EcP256).await.unwrap();
        let token = issued.token.expose_text();
        assert_eq!(part(token, 0)["alg"], algorithm.as_str());
        let _ = verify(token, &ca.bundle).unwrap();
        issued_in += 1;
    }
    assert_eq!(issued_in, 8, "all but ES512");
}

#[test]
fn wi_06_other_algorithms_are_refused() {
    for alg in ["none", "HS256", "EdDSA", "es256"] {
        assert_is(changed(|header, _| header["alg"] = json!(alg)), "alg");
    }
}

#[tokio::test]
async fn wi_07_the_header_has_no_more() {
    let (_ca, token) = ours().await;
    assert_eq!(members(part(&token, 0)).keys().collect::<Vec<_>>(), ["alg", "kid", "typ"]);
}

#[test]
fn wi_08_unknown_header_parameters_are_ignored_unless_critical() {
    let _ = changed(|header, _| header["jku"] = json!("https://example.test")).unwrap();
    assert_is(changed(|header, _| header["crit"] = json!(["exp"])), "crit");
}

#[tokio::test]
async fn wi_09_the_sub_is_a_spiffe_id() {
    let (_ca, token) = ours().await;
    assert_eq!(part(&token, 1)["sub"], WEB);
    assert_is(changed(|_, claims| without(claims, "sub")), "sub");
    assert_is(changed(|_, claims| claims["sub"] = json!("web")), "sub");
}

#[test]
fn wi_10_without_cnf_it_is_refused() {
    assert_is(changed(|_, claims| without(claims, "cnf")), "cnf");
    assert_is(changed(|_, claims| claims["cnf"] = json!({})), "cnf");
    assert_is(changed(|_, claims| claims["cnf"] = json!({ "kid": "k" })), "cnf");
    // Whoever reads a private key out of a token is the holder.
    assert_is(changed(|_, claims| claims["cnf"]["jwk"]["d"] = json!("AAAA")), "cnf");
}

#[tokio::test]
async fn wi_11_cnf_has_the_public_members_alone() {
    let (ca, token) = ours().await;
    let cnf = members(part(&token, 1)["cnf"].clone());
    assert_eq!(cnf.keys().collect::<Vec<_>>(), ["jwk"]);
    let jwk = members(cnf["jwk"].clone());
    assert_eq!(jwk.keys().collect::<Vec<_>>(), ["alg", "crv", "kty", "x", "y"]);
    let rsa = issue(&ca, KeyType::Rsa2048).await.unwrap();
    let jwk = members(part(rsa.token.expose_text(), 1)["cnf"]["jwk"].clone());
    assert_eq!(jwk.keys().collect::<Vec<_>>(), ["alg", "e", "kty", "n"]);
}

#[tokio::test]
async fn wi_12_the_holders_algorithm_is_one_of_the_nine() {
    let ca = ca().await;
    for (key_type, alg) in
        [(KeyType::EcP256, "ES256"), (KeyType::EcP384, "ES384"), (KeyType::Rsa2048, "RS256")]
    {
        let issued = issue(&ca, key_type).await.unwrap();
        assert_eq!(part(issued.token.expose_text(), 1)["cnf"]["jwk"]["alg"], alg);
    }
    let refused = issue(&ca, KeyType::Ed25519).await.unwrap_err();
    assert!(refused.is_request_fault(), "{refused}");
    for alg in [json!("none"), json!("EdDSA"), json!(null)] {
        assert_is(changed(|_, claims| claims["cnf"]["jwk"]["alg"] = alg), "cnf");
    }
    assert_is(changed(|_, claims| without(&mut claims["cnf"]["jwk"], "alg")), "cnf");
}

#[tokio::test]
async fn wi_13_the_jti_never_comes_twice() {
    let ca = ca().await;
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let issued = issue(&ca, KeyType::EcP256).await.unwrap();
        let jti = part(issued.token.expose_text(), 1)["jti"].as_str().unwrap().to_owned();
        assert!(jti.len() >= 22, "128 bits in base64url");
        assert_eq!(jti, *issued.token_id);
        assert!(seen.insert(jti));
    }
}

#[tokio::test]
async fn wi_15_it_expires() {
    let (_ca, token) = ours().await;
    let now = NOW.unix_seconds();
    assert_eq!(part(&token, 1)["exp"], json!(now + 3600));
    assert_is(changed(|_, claims| without(claims, "exp")), "exp");
    assert_is(changed(|_, claims| claims["exp"] = json!(now - 5)), "expired");
    let _ = changed(|_, claims| claims["exp"] = json!(now - 4)).unwrap();
}

#[tokio::test]
async fn wi_16_an_nbf_in_the_future_is_refused() {
    let (_ca, token) = ours().await;
    let now = NOW.unix_seconds();
    assert_eq!(part(&token, 1)["nbf"], json!(now - 300), "earlier, for peers whose clocks are slow");
    assert_is(changed(|_, claims| claims["nbf"] = json!(now + 6)), "not valid yet");
}

#[test]
fn wi_17_the_iat_limits_nothing() {
    let _ = changed(|_, claims| claims["iat"] = json!(NOW.unix_seconds() + 3600)).unwrap();
}

#[tokio::test]
async fn wi_18_there_is_no_issuer_to_be_taken_for_oidc() {
    let (_ca, token) = ours().await;
    assert!(part(&token, 1).get("iss").is_none());
}

#[tokio::test]
async fn wi_19_there_is_no_audience() {
    let (_ca, token) = ours().await;
    assert!(part(&token, 1).get("aud").is_none());
}

#[test]
fn wi_20_unknown_claims_are_ignored() {
    let _ = changed(|_, claims| claims["colour"] = json!("blue")).unwrap();
}

#[test]
fn wi_21_without_a_proof_it_names_nobody() {
    for algorithm in Algorithm::ALL {
        let (issuer, holder, thief) =
            (Forge::new(Algorithm::Es256), Forge::new(algorithm), Forge::new(algorithm));
        let (header, claims) = good(&holder);
        let shown = || verify(&issuer.token(&header, &claims), &bundle(&issuer)).unwrap();
        // `Unproven` has no way to its SPIFFE ID but this.
        let proven = shown().prove(b"a request", &holder.sign(b"a request")).unwrap();
        assert_eq!(proven.spiffe_id.to_string(), WEB);
        assert_is(shown().prove(b"a request", &thief.sign(b"a request")), "proof");
        assert_is(shown().prove(b"another request", &holder.sign(b"a request")), "proof");
        assert_is(shown().prove(b"a request", &[]), "proof");
    }
}

#[tokio::test]
async fn wi_22_it_is_no_jwt_svid() {
    let (ca, token) = ours().await;
    assert_is(forge::verify(&token, &ca.bundle), "typ");
}

#[tokio::test]
async fn wi_24_the_use_is_wit_svid() {
    let (ca, _) = ours().await;
    let set: Value = serde_json::from_str(&jwk_set(&ca.bundle.tokens.wit, Use::WitSvid)).unwrap();
    assert_eq!(set["keys"][0]["use"], "wit-svid");
}

#[tokio::test]
async fn wi_25_kids_are_unique_over_the_whole_bundle() {
    let (ca, _) = ours().await;
    let keys = || ca.bundle.tokens.jwt.iter().chain(&ca.bundle.tokens.wit);
    let kids: BTreeSet<_> = keys().map(|key| &key.kid).collect();
    assert_eq!((kids.len(), keys().count()), (2, 2));
}

#[test]
fn wi_26_only_keys_of_wit_svids_verify_them() {
    let (issuer, holder) = (Forge::new(Algorithm::Es256), Forge::new(Algorithm::Es256));
    let (header, claims) = good(&holder);
    assert_is(verify(&issuer.token(&header, &claims), &issuer.bundle()), "no key");
}

#[tokio::test]
async fn a_key_of_the_authority_is_no_holders() {
    let ca = ca().await;
    for id in ca.keys.list().unwrap() {
        let public_key = ca.keys.public(&id).unwrap();
        let content = TokenContent::Wit { public_key };
        let request = TokenRequest { spiffe_id: SpiffeId::new(WEB).unwrap(), content, lifetime: None };
        let refused = ca.authority.sign_token(request).await.unwrap_err();
        assert!(refused.to_string().contains("authority's own"), "{id}: {refused}");
    }
}
