//! Rows JW: what our JWT-SVIDs say, and which are taken.

use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;
use serde_json::{Value, json};
use spiffe_bridge::authority::{Config, TokenContent, TokenRequest};
use spiffe_bridge::identity::{SpiffeId, TokenKeys};
use spiffe_bridge::jose::Algorithm;
use spiffe_bridge::jose::document::{Use, jwk_set};

use super::forge::{AUDIENCE, Forge, WEB, assert_is, changed, good, part, verify, with};
use super::support::{Ca, NOW, ca, ca_at, domain};

pub(crate) fn request(id: &str, audience: &[&str]) -> TokenRequest {
    let audience = audience.iter().map(|text| (*text).to_owned()).collect();
    TokenRequest {
        spiffe_id: SpiffeId::new(id).unwrap(),
        content: TokenContent::Jwt { audience },
        lifetime: None,
    }
}

/// One of ours.
async fn ours() -> (Ca, String) {
    let ca = ca().await;
    let issued = ca.authority.sign_token(request(WEB, &[AUDIENCE])).await.unwrap();
    (ca, issued.token.expose_text().to_owned())
}

#[tokio::test]
async fn jw_01_only_the_compact_form_is_made_and_taken() {
    let (ca, token) = ours().await;
    assert_eq!(token.split('.').count(), 3);
    verify(&token, &ca.bundle).unwrap();
    let parts: Vec<_> = token.split('.').collect();
    let flat = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] });
    let general =
        json!({ "payload": parts[1], "signatures": [{ "protected": parts[0], "signature": parts[2] }] });
    for form in [flat.to_string(), general.to_string(), format!("{token}."), format!("{token}.x.y")] {
        assert_is(verify(&form, &ca.bundle), "compact");
    }
}

#[tokio::test]
async fn jw_02_the_header_has_alg_kid_and_typ_alone() {
    let (_ca, token) = ours().await;
    let Value::Object(header) = part(&token, 0) else { panic!() };
    assert_eq!(header.keys().collect::<Vec<_>>(), ["alg", "kid", "typ"]);
}

#[tokio::test]
async fn jw_03_each_of_the_nine_algorithms_is_verified_and_each_that_can_be_chosen_is_issued() {
    let mut issued_in = 0;
    for algorithm in Algorithm::ALL {
        let forge = Forge::new(algorithm);
        let (header, claims) = good(algorithm);
        assert_eq!(
            verify(&forge.token(&header, &claims), &forge.bundle()).unwrap().spiffe_id.to_string(),
            WEB
        );
        if algorithm.signing().is_none() {
            continue;
        }
        let config = Config { jwt_algorithm: algorithm, ..Config::new(domain()) };
        let ca = ca_at(NOW, config).await;
        let issued = ca.authority.sign_token(request(WEB, &[AUDIENCE])).await.unwrap();
        let token = issued.token.expose_text();
        assert_eq!(part(token, 0)["alg"], algorithm.as_str());
        verify(token, &ca.bundle).unwrap();
        issued_in += 1;
    }
    assert_eq!(issued_in, 8, "all but ES512");
}

#[test]
fn jw_04_other_algorithms_are_refused_before_a_key_is_looked_for() {
    for alg in
        ["none", "None", "HS256", "HS512", "EdDSA", "es256", "Es256", "ES256 ", "ES256K", "RSA-OAEP", ""]
    {
        // Neither the rest of the header, nor the claims, nor a key would pass: the algorithm is what is named.
        let header = BASE64URL_NOPAD.encode(json!({ "alg": alg, "kid": "nobody" }).to_string().as_bytes());
        let token = format!("{header}.e30.AAAA");
        let never = |_: &_| panic!("{alg}: a key was looked for");
        let refused =
            spiffe_bridge::jose::jwt_svid::verify(&token, AUDIENCE, never, NOW, super::forge::LEEWAY);
        assert_is(refused, "alg");
    }
    assert_is(changed(|header, _| header["alg"] = json!(["ES256"])), "alg");
    assert_is(changed(|header, _| drop(header.as_object_mut().unwrap().remove("alg"))), "alg");
}

#[test]
fn a_key_verifies_only_in_its_own_way() {
    let forges = Algorithm::ALL.map(Forge::new);
    for claimed in Algorithm::ALL {
        let (header, claims) = good(claimed);
        for forge in &forges {
            let result = verify(&forge.token(&header, &claims), &forge.bundle());
            assert_eq!(result.is_ok(), claimed == forge.algorithm, "{claimed} by {}", forge.algorithm);
        }
    }
}

#[test]
fn jw_05_typ_is_jwt_or_jose_where_it_is_set() {
    for typ in [json!("JWT"), json!("JOSE")] {
        changed(|header, _| header["typ"] = typ).unwrap();
    }
    changed(|header, _| drop(header.as_object_mut().unwrap().remove("typ"))).unwrap();
    for typ in [json!("jwt"), json!("wit+jwt"), json!("at+jwt"), json!(""), json!(1), json!(null)] {
        assert_is(changed(|header, _| header["typ"] = typ), "typ");
    }
}

#[test]
fn jw_06_sub_is_a_workloads_spiffe_id() {
    assert_eq!(changed(|_, _| {}).unwrap().spiffe_id.to_string(), WEB);
    for sub in
        [json!("web"), json!("spiffe://example.org"), json!("SPIFFE://example.org/web"), json!(""), json!(1)]
    {
        assert_is(changed(|_, claims| claims["sub"] = sub), "sub");
    }
    assert_is(changed(|_, claims| drop(claims.as_object_mut().unwrap().remove("sub"))), "sub");
}

#[tokio::test]
async fn jw_07_no_token_without_an_audience_is_issued() {
    let ca = ca().await;
    let refused = ca.authority.sign_token(request(WEB, &[])).await.unwrap_err();
    assert!(refused.is_request_fault() && refused.to_string().contains("audience"), "{refused}");
    for wrong in ["", "a\nb", &"x".repeat(1025)] {
        ca.authority.sign_token(request(WEB, &[wrong])).await.unwrap_err();
    }
    let issued = ca.authority.sign_token(request(WEB, &[AUDIENCE])).await.unwrap();
    assert_eq!(part(issued.token.expose_text(), 1)["aud"], json!([AUDIENCE]));
}

#[test]
fn jw_08_a_token_for_others_is_refused() {
    for aud in [json!(AUDIENCE), json!([AUDIENCE]), json!(["other", AUDIENCE])] {
        changed(|_, claims| claims["aud"] = aud).unwrap();
    }
    for aud in [
        json!("other"),
        json!([]),
        json!(["other"]),
        json!(""),
        json!(null),
        json!(AUDIENCE.to_uppercase()),
        json!([AUDIENCE, 1]),
        json!({ AUDIENCE: true }),
        json!([[AUDIENCE]]),
    ] {
        assert_is(changed(|_, claims| claims["aud"] = aud), "audience");
    }
    assert_is(changed(|_, claims| drop(claims.as_object_mut().unwrap().remove("aud"))), "audience");
}

#[tokio::test]
async fn jw_09_the_operator_bounds_the_audiences() {
    let ca = ca_at(NOW, Config { jwt_audiences: 1, ..Config::new(domain()) }).await;
    ca.authority.sign_token(request(WEB, &["a"])).await.unwrap();
    let refused = ca.authority.sign_token(request(WEB, &["a", "b"])).await.unwrap_err();
    assert!(refused.to_string().contains("authority.jwt_audiences"), "{refused}");
}

#[tokio::test]
async fn jw_10_every_token_expires() {
    let (_ca, token) = ours().await;
    let claims = part(&token, 1);
    assert_eq!(claims["exp"], json!(NOW.unix_seconds() + 300), "after five minutes, unless it is configured");
    assert_eq!(claims["iat"], json!(NOW.unix_seconds()));
}

#[test]
fn jw_11_without_a_future_exp_it_is_refused() {
    let now = NOW.unix_seconds();
    for exp in [json!("1900000000"), json!(null), json!([now + 60]), json!(true)] {
        assert_is(changed(|_, claims| claims["exp"] = exp), "exp");
    }
    assert_is(changed(|_, claims| drop(claims.as_object_mut().unwrap().remove("exp"))), "exp");
    for exp in [json!(0), json!(-1), json!(now - 60), json!(now - 6)] {
        assert_is(changed(|_, claims| claims["exp"] = exp), "expired");
    }
}

#[test]
fn jw_12_times_are_numeric_dates_with_a_small_leeway() {
    let now = NOW.unix_seconds();
    // "on or after": the very second counts as past, and the leeway is five seconds.
    changed(|_, claims| claims["exp"] = json!(now - 4)).unwrap();
    assert_is(changed(|_, claims| claims["exp"] = json!(now - 5)), "expired");
    changed(|_, claims| claims["exp"] = json!(now as f64 + 0.5)).unwrap();
    changed(|_, claims| claims["nbf"] = json!(now + 5)).unwrap();
    assert_is(changed(|_, claims| claims["nbf"] = json!(now + 6)), "not valid yet");
    assert_is(changed(|_, claims| claims["nbf"] = json!("soon")), "not valid yet");
    changed(|_, claims| claims["iat"] = json!(now + 3600)).unwrap();
}

#[tokio::test]
async fn a_token_names_its_key_as_the_bundle_does() {
    let (ca, token) = ours().await;
    let set: Value = serde_json::from_str(&jwk_set(&ca.bundle.tokens.jwt, Use::JwtSvid)).unwrap();
    assert_eq!(set["keys"][0]["kid"], part(&token, 0)["kid"], "tokens name the key as the bundle does");
}

#[tokio::test]
async fn jw_15_the_use_is_jwt_svid() {
    let (ca, _) = ours().await;
    let set: Value = serde_json::from_str(&jwk_set(&ca.bundle.tokens.jwt, Use::JwtSvid)).unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    assert_eq!(set["keys"][0]["use"], "jwt-svid");
}

#[tokio::test]
async fn jw_16_the_kid_is_set() {
    let (ca, _) = ours().await;
    let set: Value = serde_json::from_str(&jwk_set(&ca.bundle.tokens.jwt, Use::JwtSvid)).unwrap();
    assert!(set["keys"][0]["kid"].as_str().is_some_and(|kid| kid.len() >= 16));
}

#[test]
fn jw_17_only_keys_of_jwt_svids_verify_them() {
    let forge = Forge::new(Algorithm::Es256);
    let (header, claims) = good(forge.algorithm);
    let token = forge.token(&header, &claims);
    verify(&token, &forge.bundle()).unwrap();
    let wit = with(TokenKeys { jwt: Vec::new(), wit: vec![forge.key("k")] });
    assert_is(verify(&token, &wit), "no key");
    assert_is(verify(&token, &with(TokenKeys::default())), "no key");
}

#[test]
fn the_kid_picks_the_key_and_without_one_each_is_tried() {
    let (a, b) = (Forge::new(Algorithm::Es256), Forge::new(Algorithm::Es256));
    let bundle = with(TokenKeys { jwt: vec![a.key("a"), b.key("k")], wit: Vec::new() });
    let (mut header, claims) = good(Algorithm::Es256);
    verify(&b.token(&header, &claims), &bundle).unwrap();
    assert_is(verify(&a.token(&header, &claims), &bundle), "no key");
    header.as_object_mut().unwrap().remove("kid");
    verify(&a.token(&header, &claims), &bundle).unwrap();
    header["kid"] = json!("K");
    assert_is(verify(&b.token(&header, &claims), &bundle), "no key");
}

#[test]
fn wa_33_without_the_bundle_of_its_domain_a_token_is_not_trusted() {
    let forge = Forge::new(Algorithm::Es256);
    let (header, mut claims) = good(forge.algorithm);
    claims["sub"] = json!("spiffe://other.test/web");
    assert_is(verify(&forge.token(&header, &claims), &forge.bundle()), "no bundle");
}

#[test]
fn whatever_is_changed_in_a_token_is_noticed() {
    let forge = Forge::new(Algorithm::Es256);
    let (header, claims) = good(forge.algorithm);
    let (token, bundle) = (forge.token(&header, &claims), forge.bundle());
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        // The last digit of a part may have bits that mean nothing: then it is not base64url in its one form.
        assert!(verify(&other, &bundle).is_err(), "at {at}");
    }
    let twice =
        |part: &str| forge.token_of(&format!(r#"{{"alg":"ES256","kid":"k"{part}}}"#), &claims.to_string());
    verify(&twice(""), &bundle).unwrap();
    assert_is(verify(&twice(r#","kid":"k""#), &bundle), "header");
    let claims = format!(r#"{{"sub":"{WEB}","aud":"{AUDIENCE}","exp":9999999999,"aud":"{AUDIENCE}"}}"#);
    assert_is(verify(&forge.token_of(&header.to_string(), &claims), &bundle), "claims");
}

proptest! {
    #[test]
    fn no_text_is_a_token_by_accident(text in "\\PC{0,80}", cut in 0usize..200) {
        let forge = Forge::new(Algorithm::Es256);
        let (header, claims) = good(forge.algorithm);
        let (token, bundle) = (forge.token(&header, &claims), forge.bundle());
        prop_assert!(verify(&text, &bundle).is_err());
        let cut = cut.min(token.len() - 1);
        prop_assert!(verify(&token[..cut], &bundle).is_err());
    }
}
