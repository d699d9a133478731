//! `kind: TrustDomain` with a SPIFFE bundle document: read like PEM, kept with its keys of tokens, and told where it is
//! wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod directory;
mod support;

use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use directory::{Bench, Running, write};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use spiffe_bridge::identity::{Curve, KeyMaterial, TokenKey, TokenKeys, TrustBundle};
use spiffe_bridge::registration::FederatedBundle;
use spiffe_bridge::registration::document::{Content, Fault, parse};
use support::{Hostile, domain};

fn declared(bundle: &str) -> String {
    let bundle = bundle.replace('\n', "\n  ");
    format!("kind: TrustDomain\ntrust_domain: other.test\nbundle: |\n  {bundle}\n")
}

fn read(bundle: &str) -> Result<FederatedBundle, Vec<Fault>> {
    let documents = parse(&declared(bundle), &"partners.yaml".into(), &domain())?;
    match &documents[0].content {
        Content::TrustDomain(bundle) => Ok(FederatedBundle::clone(bundle)),
        other => panic!("{other:?}"),
    }
}

fn root_key(root: &CertificateDer<'_>) -> Value {
    json!({ "kty": "EC", "use": "x509-svid", "x5c": [BASE64.encode(root)] })
}

/// A key of tokens, and how a document says it.
fn token_key(r#use: &str, octet: u8) -> (TokenKey, Value) {
    let (kid, numbers) = (format!("key-{octet}"), [octet; 32]);
    let text = BASE64URL_NOPAD.encode(&numbers);
    let jwk = json!({ "kty": "EC", "use": r#use, "kid": kid, "crv": "P-256", "x": text, "y": text });
    let material = KeyMaterial::Ec { curve: Curve::P256, x: numbers.to_vec(), y: numbers.to_vec() };
    (TokenKey { kid: kid.into(), material }, jwk)
}

/// As a bundle endpoint serves it, over several lines: two roots, a key of each kind of token, and what nobody knows.
fn document(roots: &[CertificateDer<'static>; 2]) -> (String, TokenKeys) {
    let ((jwt, jwt_jwk), (wit, wit_jwk)) = (token_key("jwt-svid", 1), token_key("wit-svid", 2));
    let unknown = json!({ "kty": "EC", "use": "later-svid", "x5c": ["later"] });
    let keys = [jwt_jwk, root_key(&roots[0]), unknown, wit_jwk, root_key(&roots[1])];
    let text = json!({ "keys": keys, "spiffe_sequence": 7, "spiffe_refresh_hint": 300 });
    (serde_json::to_string_pretty(&text).unwrap(), TokenKeys { jwt: vec![jwt], wit: vec![wit] })
}

#[test]
fn a_trust_domain_is_declared_by_its_bundle_document_as_by_pem() {
    let roots = [Hostile::new().root(), Hostile::new().root()];
    let (text, tokens) = document(&roots);
    let by_document = read(&text).unwrap();
    assert_eq!(by_document.trust_domain.as_str(), "other.test");
    assert_eq!((by_document.tokens, by_document.sequence), (tokens, Some(7)));
    assert_eq!((by_document.roots.as_slice(), by_document.crls.len()), (&roots[..], 0));

    let block =
        |der| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der));
    let by_pem = read(&roots.iter().map(|root| block(root)).collect::<String>()).unwrap();
    assert_eq!((by_pem.roots, by_pem.sequence), (by_document.roots, None));
    assert_eq!(by_pem.tokens, TokenKeys::default(), "PEM has no keys of tokens");
}

/// What the index has of other trust domains, once it has something that fits.
async fn federated(
    running: &mut Running,
    fits: impl Fn(&[Arc<TrustBundle>]) -> bool,
) -> Vec<Arc<TrustBundle>> {
    let waited = running.index.wait_for(|index| fits(index.federated()));
    let index = tokio::time::timeout(Duration::from_secs(5), waited).await.expect("in time").unwrap();
    index.federated().to_vec()
}

#[tokio::test]
async fn roots_and_keys_of_tokens_outlive_a_restart_and_a_file_that_is_broken_since() {
    let roots = [Hostile::new().root(), Hostile::new().root()];
    let (text, tokens) = document(&roots);
    let mut bench = Bench::new();
    write(bench.dir.path(), "partners.yaml", &declared(&text));
    let first = federated(&mut bench.start().await, |all| !all.is_empty()).await;
    let [bundle] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!((bundle.trust_domain.as_str(), bundle.roots.as_slice()), ("other.test", &roots[..]));
    assert_eq!(bundle.tokens, tokens);

    write(bench.dir.path(), "partners.yaml", &declared(text.trim_end_matches('}')));
    let mut running = bench.start().await; // a new process, on what the store holds
    let status = running.handle.rescan().await.unwrap();
    let problem = &status.problems[0];
    assert_eq!((&*problem.file, problem.line, problem.column), ("partners.yaml", 4, 3));
    let again = federated(&mut running, |all| !all.is_empty()).await;
    assert_eq!(
        (again[0].version, &again[0].tokens),
        (bundle.version, &tokens),
        "the same, read from the store"
    );
    assert_eq!(again[0].roots, roots);

    // What the document leaves out is trusted no longer.
    let less = json!({ "keys": [root_key(&roots[1])], "spiffe_sequence": 8 });
    write(bench.dir.path(), "partners.yaml", &declared(&less.to_string()));
    let last = federated(&mut running, |all| all[0].version != bundle.version).await;
    assert_eq!((last[0].roots.as_slice(), &last[0].tokens), (&roots[1..], &TokenKeys::default()));
}

#[test]
fn what_is_wrong_with_a_bundle_document_is_told_in_one_line_at_its_place() {
    let check = |text: &str, word: &str| {
        let faults = read(text).expect_err(text);
        let [fault] = faults.as_slice() else { panic!("{faults:?}") };
        assert_eq!((&*fault.file, fault.line, fault.column), ("partners.yaml", 4, 3), "{text}");
        assert!(fault.message.contains(word) && !fault.message.contains('\n'), "{:?}", fault.message);
    };
    let good = root_key(&Hostile::new().root());
    let with = |key: Value| json!({ "keys": [good, key] }).to_string();
    read(&with(good.clone())).expect("the good one is good");
    check("{\"keys\": [", "not a SPIFFE bundle document");
    check("{\"roots\": []}", "no keys");
    check(
        &json!({ "keys": [good], "spiffe_sequence": "7" }).to_string(),
        "spiffe_sequence is not a whole number",
    );
    check(&with(json!({ "kty": "EC", "use": "x509-svid", "x5c": ["later"] })), "key 2");
    let leaf = Hostile::new().chain().remove(0);
    check(&with(root_key(&leaf)), "certificate 2 is not one that can be trusted as a root");
    let mut private = token_key("jwt-svid", 1).1;
    private["d"] = "secret".into();
    check(&with(private), "key 2 of the document cannot be used");
    // A document that stands there as YAML of its own is no text.
    let nested = "kind: TrustDomain\ntrust_domain: other.test\nbundle: {keys: []}\n";
    let faults = parse(nested, &"partners.yaml".into(), &domain()).unwrap_err();
    assert_eq!((faults.len(), faults[0].line, faults[0].column), (1, 3, 9));
}

#[tokio::test]
async fn a_domain_without_roots_before_one_with_them_changes_nothing_at_a_restart() {
    let mut bench = Bench::new();
    let empty = declared(r#"{"keys":[]}"#).replace("other.test", "empty.test");
    let (text, _) = document(&[Hostile::new().root(), Hostile::new().root()]);
    write(bench.dir.path(), "partners.yaml", &format!("{empty}---\n{}", declared(&text)));
    bench.start().await.handle.rescan().await.unwrap();
    let before = bench.store.revision();
    let restarted = bench.start().await;
    assert_eq!(restarted.handle.rescan().await.unwrap().problems, []);
    assert_eq!(bench.store.revision(), before, "it was written once");
    let index = restarted.index.borrow();
    let known: Vec<_> = index.federated().iter().map(|b| (b.trust_domain.as_str(), b.roots.len())).collect();
    assert_eq!(known, [("empty.test", 0), ("other.test", 2)]);
}
