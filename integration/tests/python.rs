//! Python: the SPIFFE library as it is on PyPI, and two JOSE implementations that judge our tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::tools;
use serde_json::{Value, json};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::{Revision, TokenKey, TokenKeys, TrustBundle, TrustDomain};
use spiffe_bridge::jose::document::{Use, jwk_set};
use spiffe_bridge::jose::jws::{finish, signing_input};
use spiffe_bridge::jose::{Algorithm, jwk, jwt_svid};
use spiffe_bridge::keys::{KeyId, KeyManager, MemoryKeys};

const WEB: &str = "spiffe://example.org/web";

fn python(script: &str) -> Command {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let requirements = std::fs::read_to_string(home.join("requirements.txt")).unwrap();
    let mut python = tools::python_with("clients", &requirements).unwrap();
    python.arg(home.join(script));
    python
}

/// What a script printed, as JSON.
fn said(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_library_fetches_watches_and_validates() {
    let scratch = Scratch::new().unwrap();
    let options = Options { leaf_lifetime: Some("8s".into()), renew_at: Some(0.1), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
    server.add_entry(WEB, &[&ours]).unwrap();
    let socket = server.socket();
    let output =
        tokio::task::spawn_blocking(move || python("workload.py").arg(socket).arg("2").output().unwrap());
    let said = said(&output.await.unwrap());
    assert_eq!((&said["spiffe_id"], &said["jwt"], &said["judged"]), (&json!(WEB), &json!(WEB), &json!(WEB)));
    assert_eq!((&said["renewals"], &said["authorities"], &said["keys"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(said["audience"], json!(["reports"]));
    assert!(said["refusal"].as_str().unwrap().contains("another audience"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_over_the_c_core_is_told_once_the_server_has_a_name_for_it() {
    for (named, asks, works) in
        [("", "", false), ("", "broker.test", false), (", dns_names: [broker.test]", "broker.test", true)]
    {
        let scratch = Scratch::new().unwrap();
        let socket = scratch.dir("broker", None).unwrap().join("broker.sock");
        let allow = "spiffe://example.org/broker";
        let more = format!("broker: {{socket: {}, allow: ['{allow}']{named}}}\n", socket.display());
        let server =
            Server::start(&scratch, "server", &Options { more, ..Options::default() }).await.unwrap();
        let sleep = Path::new("/usr/bin/sleep").canonicalize().unwrap();
        server.add_entry(WEB, &[&format!("unix:path:{}", sleep.display())]).unwrap();
        let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
        server.add_entry(allow, &[&ours]).unwrap();
        let mut workload = Command::new(sleep).arg("600").spawn().unwrap();
        let mut broker = python("broker.py");
        broker.arg(server.socket()).arg(socket).arg(workload.id().to_string()).arg(asks);
        let output = tokio::task::spawn_blocking(move || broker.output().unwrap()).await.unwrap();
        workload.kill().unwrap();
        workload.wait().unwrap();
        let said = said(&output);
        if works {
            assert_eq!(said["has_web"], true, "{said}");
        } else {
            assert_eq!(said["code"], "UNAVAILABLE", "{said}");
        }
    }
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
        let asked = json!({
            "jwks": jwks,
            "audience": "reports",
            "now": now.unix_seconds(),
            "algorithms": Algorithm::ALL.map(Algorithm::as_str),
            "tokens": tokens,
        });
        let mut judge = python("judge.py");
        let judge = judge.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut judge = judge.spawn().unwrap();
        judge.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
        let theirs = said(&judge.wait_with_output().unwrap());
        for (n, taken) in ours.iter().enumerate() {
            assert_eq!(theirs[n], json!([taken, taken]), "{algorithm}, token {n}: {}", tokens[n]);
        }
    }
}
