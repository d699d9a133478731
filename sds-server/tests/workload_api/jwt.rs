//! The JWT profile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost_types::value::Kind;
use sds_server::proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse,
};
use serde_json::Value;
use spiffe_bridge::identity::{TrustBundle, WorkloadUpdate};
use tonic::{Code, Status};

use super::fixture::xds::{API, WEB, nothing, silent};
use super::fixture::{Served, first, next, serve};

async fn fetch(served: &Served, audience: &[&str], spiffe_id: &str) -> Result<JwtsvidResponse, Status> {
    let audience = audience.iter().map(|text| (*text).to_owned()).collect();
    served.call("FetchJWTSVID", JwtsvidRequest { audience, spiffe_id: spiffe_id.into() }).await
}

async fn validate(served: &Served, audience: &str, svid: &str) -> Result<ValidateJwtsvidResponse, Status> {
    let request = ValidateJwtsvidRequest { audience: audience.into(), svid: svid.into() };
    served.call("ValidateJWTSVID", request).await
}

async fn bundles(served: &Served) -> Result<JwtBundlesResponse, Code> {
    first(served.stream("FetchJWTBundles", JwtBundlesRequest {}).await).await
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.map(drop).unwrap_err().code()
}

#[tokio::test]
async fn wa_01_the_jwt_profile_is_there_beside_x509() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    let response = fetch(&served, &["reports"], "").await.unwrap();
    let token = &response.svids[0].svid;
    let verified = validate(&served, "reports", token).await.unwrap();
    assert_eq!(verified.spiffe_id, WEB);
    bundles(&served).await.unwrap();
}

#[tokio::test]
async fn wa_09_what_must_be_there_and_is_not_is_an_invalid_argument() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    assert_eq!(code(fetch(&served, &[], "").await), Code::InvalidArgument);
    assert_eq!(code(fetch(&served, &[""], "").await), Code::InvalidArgument);
    assert_eq!(code(validate(&served, "", "a.b.c").await), Code::InvalidArgument);
    assert_eq!(code(validate(&served, "reports", "").await), Code::InvalidArgument);
}

#[tokio::test]
async fn wa_22_the_token_is_for_the_audience_that_was_asked_for() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    let one = fetch(&served, &["reports"], "").await.unwrap();
    assert_eq!(claims(&one.svids[0].svid)["aud"], serde_json::json!(["reports"]));
    let two = fetch(&served, &["b", "a"], "").await.unwrap();
    assert_eq!(claims(&two.svids[0].svid)["aud"], serde_json::json!(["b", "a"]));
    let refused = fetch(&served, &["a", "b", "c"], "").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("authority.jwt_audiences"), "{refused}");
}

#[tokio::test]
async fn wa_23_without_an_id_there_is_a_token_for_each_identity() {
    let served = serve().await;
    served.publish(&served.holding(&[API, WEB], &["internal", "internal"]));
    let all = fetch(&served, &["reports"], "").await.unwrap();
    let ids: Vec<_> = all.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(ids, [API, WEB], "the default identity first");
    let hints: Vec<_> = all.svids.iter().map(|svid| svid.hint.as_str()).collect();
    assert_eq!(hints, ["internal", ""], "a hint stands once");
    for svid in &all.svids {
        assert_eq!(claims(&svid.svid)["sub"], svid.spiffe_id.as_str());
    }
}

#[tokio::test]
async fn wa_24_a_response_has_at_least_one_token() {
    let served = serve().await;
    served.publish(&served.holding(&[API, WEB], &[]));
    let one = fetch(&served, &["reports"], WEB).await.unwrap();
    assert_eq!(one.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect::<Vec<_>>(), [WEB]);
}

#[tokio::test]
async fn wa_25_of_no_identity_or_anothers_permission_is_denied() {
    let served = serve().await;
    served.publish(&nothing());
    assert_eq!(code(fetch(&served, &["reports"], "").await), Code::PermissionDenied);
    served.publish(&served.holding(&[WEB], &[]));
    let other = fetch(&served, &["reports"], API).await.unwrap_err();
    let missing = fetch(&served, &["reports"], "spiffe://example.org/nobody").await.unwrap_err();
    assert_eq!((other.code(), other.message()), (Code::PermissionDenied, missing.message()));
    assert_eq!(code(fetch(&served, &["reports"], "not an id").await), Code::PermissionDenied);
}

#[tokio::test]
async fn the_same_token_serves_until_it_is_due() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    let first = fetch(&served, &["reports"], "").await.unwrap();
    let again = fetch(&served, &["reports"], WEB).await.unwrap();
    assert_eq!(first.svids[0].svid, again.svids[0].svid);
    let other = fetch(&served, &["billing"], "").await.unwrap();
    assert_ne!(first.svids[0].svid, other.svids[0].svid);
}

#[tokio::test]
async fn the_tokens_of_an_identity_are_bounded_and_those_in_no_use_make_room() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    for n in 0..spiffe_bridge::node::MAX_TOKENS_PER_IDENTITY + 32 {
        // As many at once as one caller may have new, then at the pace of the identity.
        let begun = Instant::now();
        while let Err(refused) = fetch(&served, &[&n.to_string()], "").await {
            let is_pace = refused.message().contains("faster than");
            assert!(is_pace && begun.elapsed() < Duration::from_secs(5), "{refused}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn wa_27_the_bundles_hold_our_own_domain() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    let response = bundles(&served).await.unwrap();
    assert!(response.bundles.contains_key("spiffe://example.org"));
}

#[tokio::test]
async fn wa_28_no_key_of_another_use_is_among_them() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    let response = bundles(&served).await.unwrap();
    let set: Value = serde_json::from_slice(&response.bundles["spiffe://example.org"]).unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["use"]), (1, &Value::from("jwt-svid")));
}

#[tokio::test]
async fn wa_29_without_an_entry_there_are_no_jwt_bundles() {
    let served = serve().await;
    served.publish(&nothing());
    assert_eq!(bundles(&served).await.unwrap_err(), Code::PermissionDenied);
    assert_eq!(code(validate(&served, "reports", "a.b.c").await), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_30_a_token_is_judged_by_every_rule() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    let token = fetch(&served, &["reports"], "").await.unwrap().svids[0].svid.clone();
    validate(&served, "reports", &token).await.unwrap();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let none = format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap());
    for (audience, wrong) in [
        ("billing", token.clone()),
        ("reports", format!("{signed}.{}", "A".repeat(86))),
        ("reports", none),
        ("reports", "nonsense".to_owned()),
        ("reports", format!("{token}.")),
    ] {
        assert_eq!(code(validate(&served, audience, &wrong).await), Code::InvalidArgument, "{audience}");
    }
    // Under another bundle of the same name it is worth nothing.
    served.publish(&super::fixture::holding(&[WEB], &[], &[]));
    assert_eq!(code(validate(&served, "reports", &token).await), Code::InvalidArgument);
}

#[tokio::test]
async fn wa_31_all_claims_are_returned() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    let token = fetch(&served, &["reports"], "").await.unwrap().svids[0].svid.clone();
    let fields = validate(&served, "reports", &token).await.unwrap().claims.unwrap().fields;
    let Value::Object(said) = claims(&token) else { panic!() };
    assert_eq!(fields.keys().collect::<Vec<_>>(), said.keys().collect::<Vec<_>>());
    assert_eq!(fields["sub"].kind, Some(Kind::StringValue(WEB.into())));
    assert_eq!(fields["exp"].kind, Some(Kind::NumberValue(said["exp"].as_f64().unwrap())));
    assert!(matches!(&fields["aud"].kind, Some(Kind::ListValue(list)) if list.values.len() == 1));
}

#[tokio::test]
async fn jwt_bundles_come_again_when_a_key_changes_and_not_before() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    let mut stream =
        served.stream::<_, JwtBundlesResponse>("FetchJWTBundles", JwtBundlesRequest {}).await.unwrap();
    let before = next(&mut stream).await.unwrap();
    served.publish(&served.holding(&[API, WEB], &[])); // another identity changes no bundle
    silent(&mut stream).await;
    let mut update = WorkloadUpdate::clone(&served.holding(&[WEB], &[]));
    let TrustBundle { trust_domain, roots, tokens, version, .. } = &*served.bundle;
    let mut tokens = tokens.clone();
    tokens.jwt.push(tokens.wit[0].clone());
    let bundle = TrustBundle::new(trust_domain.clone(), roots.clone(), version.revision);
    update.bundle = Some(Arc::new(bundle.with_tokens(tokens)));
    served.publish(&Arc::new(update));
    assert_ne!(next(&mut stream).await.unwrap().bundles, before.bundles);
}
