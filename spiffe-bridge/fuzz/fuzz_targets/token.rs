//! Any text as a token: no panic, bounded, what was read is what stands there, and nobody but the key's owner makes one
//! that is taken.
#![no_main]

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{Curve, KeyMaterial, Revision, TokenKey, TokenKeys, TrustBundle};
use spiffe_bridge::jose::jws::{Jws, MAX_TOKEN_BYTES};
use spiffe_bridge::jose::{jwt_svid, wit_svid};

/// The base point of P-256: its private key is 1, and no input signs with it by chance.
const X: &str = "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY";
const Y: &str = "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";

fuzz_target!(|text: &str| {
    let octets = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).expect("base64url");
    let material = KeyMaterial::Ec { curve: Curve::P256, x: octets(X), y: octets(Y) };
    let key = || vec![TokenKey { kid: "k".into(), material: material.clone() }];
    let domain: spiffe_bridge::identity::TrustDomain = "example.org".try_into().expect("a domain");
    let tokens = TokenKeys { jwt: key(), wit: key() };
    let bundle = TrustBundle::new(domain, Vec::new(), Revision(1)).with_tokens(tokens);
    let (now, leeway) = (Timestamp::from_unix_seconds(1), Duration::from_secs(5));
    assert!(jwt_svid::verify(text, "a", |_| Some(&bundle), now, leeway).is_err());
    assert!(wit_svid::verify(text, |_| Some(&bundle), now, leeway).is_err());
    let Ok(jws) = Jws::parse(text) else { return };
    assert!(text.len() <= MAX_TOKEN_BYTES);
    let signed = std::str::from_utf8(jws.signed()).expect("text");
    assert_eq!(format!("{signed}.{}", BASE64URL_NOPAD.encode(jws.signature())), text);
});
