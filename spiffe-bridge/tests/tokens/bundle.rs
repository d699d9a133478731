//! Rows TB and X5-19 to X5-24: bundles as documents, ours and others'.

use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};
use spiffe_bridge::identity::{TokenKey, TokenKeys};
use spiffe_bridge::jose::bundle::{self, BundleError, MAX_TOKEN_KEYS, parse};
use spiffe_bridge::jose::{Algorithm, document, jwk};
use spiffe_bridge::x509::inspect;

use super::forge::{Forge, with};
use super::support::{Ca, Hostile, NOW, ca, openssl};

fn published(ca: &Ca) -> Value {
    serde_json::from_str(&document::bundle(&ca.bundle, 7, Duration::from_secs(300))).unwrap()
}

fn of(ca: &Ca, r#use: &str) -> Vec<Value> {
    let document = published(ca);
    document["keys"].as_array().unwrap().iter().filter(|key| key["use"] == r#use).cloned().collect()
}

fn root_jwk(x5c: Value) -> Value {
    json!({ "kty": "EC", "use": "x509-svid", "x5c": x5c })
}

fn root() -> String {
    BASE64.encode(&Hostile::new().root())
}

fn read(keys: &[Value]) -> Result<bundle::BundleDocument, BundleError> {
    parse(&json!({ "keys": keys }).to_string())
}

#[tokio::test]
async fn x5_19_the_use_of_a_root_is_x509_svid() {
    let ca = ca().await;
    assert_eq!(of(&ca, "x509-svid").len(), ca.bundle.roots.len());
}

#[tokio::test]
async fn x5_20_a_root_has_no_kid() {
    assert!(of(&ca().await, "x509-svid")[0].get("kid").is_none());
}

#[tokio::test]
async fn x5_21_a_root_has_its_one_certificate() {
    let ca = ca().await;
    let x5c = of(&ca, "x509-svid")[0]["x5c"].clone();
    assert_eq!(x5c, json!([BASE64.encode(ca.root())]));
}

#[tokio::test]
async fn x5_22_the_certificate_is_self_signed() {
    let ca = ca().await;
    inspect::trust_anchor(ca.root()).unwrap();
    // Unless it is told to, OpenSSL takes a root for one without a look at its signature.
    let judged = |root: &[u8]| {
        let at = NOW.unix_seconds().to_string();
        openssl(&["verify", "-check_ss_sig", "-attime", &at, "-CAfile", "root", "leaf"], root, root)
    };
    let (signed, said) = judged(ca.root());
    assert!(signed, "{said}");
    // The signature is what stands last.
    let mut flipped = ca.root().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let (signed, said) = judged(&flipped);
    assert!(!signed && said.contains("certificate signature failure"), "{said}");
}

#[test]
fn x5_23_a_root_without_a_certificate_is_ignored() {
    let good = root_jwk(json!([root()]));
    let bare = json!({ "kty": "EC", "use": "x509-svid" });
    assert_eq!(read(&[bare.clone(), root_jwk(json!([])), good]).unwrap().roots.len(), 1);
    assert_eq!(read(&[bare]).unwrap().roots, [], "and nobody is trusted by what is left");
}

#[test]
fn x5_24_only_the_first_certificate_counts() {
    let (first, second) = (root(), root());
    let document = read(&[root_jwk(json!([first.clone(), second]))]).unwrap();
    assert_eq!(document.roots.iter().map(|root| BASE64.encode(root)).collect::<Vec<_>>(), [first]);
}

#[test]
fn tb_01_undefined_members_are_not_required() {
    read(&[root_jwk(json!([root()]))]).unwrap();
}

#[test]
fn tb_03_the_sequence_has_64_bits() {
    let text = |sequence: &str| {
        format!(r#"{{"spiffe_sequence":{sequence},"keys":[{}]}}"#, root_jwk(json!([root()])))
    };
    assert_eq!(parse(&text("18446744073709551615")).unwrap().sequence, Some(u64::MAX));
    for wrong in ["-1", "1.5", "\"1\"", "18446744073709551616", "null"] {
        assert!(parse(&text(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn tb_04_the_version_changes_with_every_key() {
    let (a, b) = (Forge::new(Algorithm::Es256).key("a"), Forge::new(Algorithm::Rs256).key("b"));
    let keys = |jwt: &[&TokenKey], wit: &[&TokenKey]| {
        let copy = |keys: &[&TokenKey]| keys.iter().map(|key| (*key).clone()).collect();
        with(TokenKeys { jwt: copy(jwt), wit: copy(wit) }).version.hash
    };
    let renamed = TokenKey { kid: "c".into(), ..a.clone() };
    let hashes = [
        keys(&[], &[]),
        keys(&[&a], &[]),
        keys(&[], &[&a]),
        keys(&[&b], &[]),
        keys(&[&renamed], &[]),
        keys(&[&a, &b], &[]),
        keys(&[&a], &[&b]),
    ];
    let different: std::collections::HashSet<_> = hashes.iter().collect();
    assert_eq!(different.len(), hashes.len());
    assert_eq!(keys(&[&a], &[&b]), keys(&[&a], &[&b]));
}

#[tokio::test]
async fn tb_05_the_refresh_hint_is_in_whole_seconds() {
    assert_eq!(published(&ca().await)["spiffe_refresh_hint"], 300);
}

#[tokio::test]
async fn tb_06_the_keys_are_there() {
    let ca = ca().await;
    assert_eq!(
        published(&ca)["keys"].as_array().unwrap().len(),
        3,
        "a root, and a key of each kind of token"
    );
    assert!(parse(r#"{"spiffe_sequence":1}"#).is_err());
    // What we publish, we read.
    let back = parse(&published(&ca).to_string()).unwrap();
    assert_eq!((&back.roots, &back.tokens, back.sequence), (&ca.bundle.roots, &ca.bundle.tokens, Some(7)));
}

#[test]
fn tb_07_keys_of_unknown_kind_or_use_are_ignored() {
    let forge = Forge::new(Algorithm::Es256);
    let mut known = jwk::named(&forge.key("k"));
    known.insert("use".into(), "jwt-svid".into());
    let with = |member: &str, value: Value| {
        let mut other = known.clone();
        other.insert(member.into(), value);
        Value::Object(other)
    };
    let others = [
        with("kty", json!("oct")),
        with("kty", json!("ec")),
        with("use", json!("JWT-SVID")),
        with("use", json!("sig")),
        with("use", json!(null)),
        with("crv", json!("P-192")),
        with("kid", json!("")),
        with("x", json!("AAAA")),
        json!({}),
    ];
    let mut keys = others.to_vec();
    keys.extend([root_jwk(json!([root()])), Value::Object(known.clone())]);
    let document = read(&keys).unwrap();
    assert_eq!((document.tokens.jwt, document.tokens.wit), (vec![forge.key("k")], Vec::new()));
}

#[tokio::test]
async fn tb_09_there_are_no_undefined_members() {
    let known = ["kty", "use", "kid", "crv", "x", "y", "n", "e", "x5c"];
    for key in published(&ca().await)["keys"].as_array().unwrap() {
        let unknown: Vec<_> =
            key.as_object().unwrap().keys().filter(|name| !known.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

#[tokio::test]
async fn tb_10_every_key_has_kty_and_use() {
    for key in published(&ca().await)["keys"].as_array().unwrap() {
        assert!(key["kty"].is_string() && key["use"].is_string(), "{key}");
    }
}

#[test]
fn tb_13_what_stands_there_twice_is_refused() {
    let good = root_jwk(json!([root()]));
    parse(&format!(r#"{{"keys":[{good}]}}"#)).unwrap();
    let inner = good.to_string().replacen('{', r#"{"use":"x509-svid","#, 1);
    for text in [format!(r#"{{"keys":[],"keys":[{good}]}}"#), format!(r#"{{"keys":[{inner}]}}"#)] {
        assert!(matches!(parse(&text), Err(BundleError::Json(_))), "{text}");
    }
}

#[test]
fn keys_are_bounded() {
    let forge = Forge::new(Algorithm::Es256);
    let key = |n: usize| {
        let mut key = jwk::named(&forge.key(&n.to_string()));
        key.insert("use".into(), "wit-svid".into());
        Value::Object(key)
    };
    let mut keys: Vec<_> = (0..MAX_TOKEN_KEYS).map(key).collect();
    keys.push(root_jwk(json!([root()])));
    assert_eq!(read(&keys).unwrap().tokens.wit.len(), MAX_TOKEN_KEYS);
    keys.push(key(MAX_TOKEN_KEYS));
    assert!(matches!(read(&keys), Err(BundleError::TooManyKeys(_))));
}
