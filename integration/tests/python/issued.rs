//! Two JOSE implementations judge what the server issues, in each algorithm; ours judges what another one signed.

use data_encoding::BASE64URL_NOPAD;
use integration::scratch::Scratch;
use integration::sds;
use integration::server::{Options, Server};
use integration::workload::ask;
use sds_server::proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, WitBundlesRequest,
    WitBundlesResponse, WitsvidRequest, WitsvidResponse,
};
use serde_json::{Value, json};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::{Revision, TokenKeys, TrustBundle, TrustDomain};
use spiffe_bridge::jose::{Algorithm, jwk, jwt_svid, wit_svid};

use super::WEB;
use super::jose::{answer, judged};

/// The token as it is, and as it is not: with other claims, and with a signature that has another bit, is not there, or
/// is made up.
fn altered(token: &str) -> Vec<String> {
    let parts: Vec<_> = token.split('.').collect();
    let decoded = |part: usize| BASE64URL_NOPAD.decode(parts[part].as_bytes()).unwrap();
    let mut claims: Value = serde_json::from_slice(&decoded(1)).unwrap();
    claims["sub"] = json!("spiffe://example.org/admin");
    let claims = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
    let mut signature = decoded(2);
    signature[0] ^= 1;
    let flipped = BASE64URL_NOPAD.encode(&signature);
    let headed = |part: &str, signature: &str| format!("{}.{part}.{signature}", parts[0]);
    vec![
        token.to_owned(),
        headed(&claims, parts[2]),
        headed(parts[1], &flipped),
        headed(parts[1], ""),
        headed(parts[1], &BASE64URL_NOPAD.encode(&vec![1; signature.len()])),
    ]
}

/// That the token has that algorithm, and that both of the others take it under the keys that the server publishes, and
/// nothing else.
fn check(token: &str, keys: &str, audience: Option<&str>, algorithm: Algorithm) {
    let header = BASE64URL_NOPAD.decode(token.split('.').next().unwrap().as_bytes()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["alg"], algorithm.as_str());
    let judged =
        judged(&serde_json::from_str(keys).unwrap(), audience, Clock::system().now(), &altered(token));
    let refused = [false, false];
    assert_eq!(
        judged,
        json!([[true, true], refused, refused, refused, refused]),
        "{algorithm}, for {audience:?}: {token}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_issues_in_each_algorithm_is_taken_under_the_keys_that_it_publishes() {
    let all: Vec<_> = Algorithm::ALL.into_iter().filter(|one| one.signing().is_some()).collect();
    assert_eq!(all.len(), 8, "all but ES512, which nothing here signs with");
    // Not one for both: neither kind has the other's.
    for (jwt, wit) in all.iter().copied().zip(all.iter().copied().cycle().skip(1)) {
        let scratch = Scratch::new().unwrap();
        let more = format!(
            "authority: {{jwt_algorithm: {jwt}, wit_algorithm: {wit}}}\n\
             workload_api: {{wit_svids: true}}\n"
        );
        let server =
            Server::start(&scratch, "server", &Options { more, ..Options::default() }).await.unwrap();
        server.add_entry(WEB, &[&format!("unix:uid:{}", rustix::process::getuid().as_raw())]).unwrap();
        sds::svid(&server.socket(), WEB).await.unwrap(); // the entry has been read

        let asked = JwtsvidRequest { audience: vec!["reports".into()], spiffe_id: WEB.into() };
        let issued: JwtsvidResponse = ask(&server.socket(), "FetchJWTSVID", asked).await.unwrap();
        let keys: JwtBundlesResponse =
            ask(&server.socket(), "FetchJWTBundles", JwtBundlesRequest {}).await.unwrap();
        let keys = std::str::from_utf8(&keys.bundles["spiffe://example.org"]).unwrap();
        check(&issued.svids[0].svid, keys, Some("reports"), jwt);

        let asked = WitsvidRequest { spiffe_id: WEB.into() };
        let issued: WitsvidResponse = ask(&server.socket(), "FetchWITSVID", asked).await.unwrap();
        let keys: WitBundlesResponse =
            ask(&server.socket(), "FetchWITBundles", WitBundlesRequest {}).await.unwrap();
        check(&issued.svids[0].wit_svid, &keys.bundles["spiffe://example.org"], None, wit);
    }
}

#[test]
fn es512_of_another_implementation_is_taken_by_ours() {
    let now = Clock::system().now();
    let holder =
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "x": "A".repeat(43), "y": "A".repeat(43) });
    let claims =
        json!({ "sub": WEB, "aud": ["reports"], "exp": now.unix_seconds() + 600, "cnf": { "jwk": holder } });
    let made = answer("es512.py", &json!({ "claims": claims }));
    let key = jwk::token_key(made["jwk"].as_object().unwrap()).unwrap();
    let keys = TokenKeys { jwt: vec![key.clone()], wit: vec![key] };
    let domain = TrustDomain::new("example.org").unwrap();
    let bundle = TrustBundle::new(domain, Vec::new(), Revision(1)).with_tokens(keys);
    let leeway = std::time::Duration::ZERO;
    let takes_jwt =
        |token: &String| jwt_svid::verify(token, "reports", |_| Some(&bundle), now, leeway).is_ok();
    let takes_wit = |token: &String| wit_svid::verify(token, |_| Some(&bundle), now, leeway).is_ok();
    let only_the_first = [true, false, false, false, false];
    let jwts = altered(made["jwt"].as_str().unwrap());
    assert_eq!(jwts.iter().map(takes_jwt).collect::<Vec<_>>(), only_the_first);
    let wits = altered(made["wit"].as_str().unwrap());
    assert_eq!(wits.iter().map(takes_wit).collect::<Vec<_>>(), only_the_first);
}
