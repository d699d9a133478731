//! Generic secrets. envoy-sds.md §1.5.

use data_encoding::BASE64URL_NOPAD;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::GenericSecret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use crate::rows::{inline, source};

/// A token as long as `padding` makes it. Nobody here looks at its signature.
fn token(audience: &str, exp: u64, padding: usize) -> String {
    let claims = format!(r#"{{"sub":"spiffe://example.org/web","aud":["{audience}"],"exp":{exp}}}"#);
    let parts = [r#"{"alg":"ES256","kid":"1"}"#, &claims, &"s".repeat(64 + padding)];
    parts.map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".")
}

pub(crate) fn rows() -> Vec<(&'static str, Option<Type>)> {
    let of = |content: Vec<u8>| GenericSecret { secret: inline(content), ..GenericSecret::default() };
    let good = token("app", 2_200_000_000, 0);
    let rows = vec![
        ("a token", of(good.clone().into())),
        ("a token that has expired", of(token("app", 1_700_000_000, 0).into())),
        ("a token for somebody else", of(token("other", 2_200_000_000, 0).into())),
        ("a text that is no token", of(b"secret".to_vec())),
        ("empty", of(Vec::new())),
        ("absent", GenericSecret::default()),
        ("a newline at its end", of(format!("{good}\n").into())),
        ("octets that are no text", of(vec![0, 1, 2, 0xff])),
        ("64 KiB", of(token("app", 2_200_000_000, 48 * 1024).into())),
        (
            "a map of secrets",
            GenericSecret { secret: None, secrets: [("a".to_owned(), inline(good.clone()).unwrap())].into() },
        ),
        (
            "as a string",
            GenericSecret { secret: source(Specifier::InlineString(good)), ..GenericSecret::default() },
        ),
    ];
    rows.into_iter().map(|(what, generic)| (what, Some(Type::GenericSecret(generic)))).collect()
}
