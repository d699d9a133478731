//! JWT-SVIDs: made, and issued with each on record before it is answered, against the signature alone.
//!
//! `cargo bench -p integration --bench jwt`. The store lies on the disk of the target directory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use common::home::{Home, dealt, identities};
use common::table::{Goal, Table};
use common::turns;
use spiffe_bridge::authority::{Authority, TokenContent, TokenRequest};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{SpiffeId, TokenKeys, TrustBundle, TrustDomain};
use spiffe_bridge::jose::jws::{finish, signing_input};
use spiffe_bridge::jose::{Algorithm, jwk, jwt_svid};
use spiffe_bridge::keys::{KeyId, KeyManager, MemoryKeys};

/// As the server has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const TOKENS: usize = 60_000;
/// Requests under way.
const CONCURRENT: usize = 1024;

fn main() {
    if !common::asked_for() {
        return;
    }
    let maker = Maker::new();
    let raw = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let message = maker.input();
    let sign = || {
        let _ = black_box(raw.sign(&SystemRandom::new(), message.as_bytes()).unwrap());
    };
    let mut table = Table::new("jwt, CPU of one thread a token");
    let mut compare = |what: &str, figure: &dyn Fn(), limit: &dyn Fn(), goal| {
        turns::single(&mut table, what, figure, limit, goal);
    };
    compare(
        "claims, header, signature, text : sign",
        &|| drop(black_box(maker.token())),
        &sign,
        Goal::AtLeast(0.8),
    );
    let (token, bundle) = (maker.token(), maker.bundle());
    let verify = || {
        let of = |_: &TrustDomain| Some(&bundle);
        drop(black_box(jwt_svid::verify(&token, "reports", of, Maker::NOW, Duration::ZERO).unwrap()));
    };
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    let material = &bundle.tokens.jwt[0].material;
    let alone = || assert!(Algorithm::Es256.verifies(material, signed.as_bytes(), &signature));
    compare("validated : verify", &verify, &alone, Goal::None);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(issue());
}

async fn issue() {
    let home = Home::open().await;
    let title =
        format!("jwt, {TOKENS} tokens on {} threads, {CONCURRENT} at once, each on record", turns::threads());
    let mut table = Table::new(&title);
    // As many identities as callers, each of which asks again and again.
    let requests: Vec<_> = identities(CONCURRENT).into_iter().map(request).map(Arc::new).collect();
    let prepare = || dealt(requests.iter().cycle().take(TOKENS).cloned(), CONCURRENT);
    let ours = async |shares| home.issue(shares, |a, r| Box::pin(one(a, r))).await;
    let (what, goal) = ("issued, recorded : signed", Goal::AtLeast(0.8));
    turns::many(&mut table, what, TOKENS, prepare, (ours, sign), goal).await;
    home.stop().await;
}

/// Signatures alone.
fn sign() {
    turns::on_all_threads(TOKENS, || {
        let signer = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        move || {
            black_box(signer.sign(&SystemRandom::new(), &[7; 320]).unwrap());
        }
    });
}

fn request(spiffe_id: SpiffeId) -> TokenRequest {
    let content = TokenContent::Jwt { audience: vec!["reports".to_owned()] };
    TokenRequest { spiffe_id, content, lifetime: None }
}

async fn one(authority: &Authority, request: Arc<TokenRequest>) {
    black_box(authority.sign_token(TokenRequest::clone(&request)).await.unwrap());
}

/// What the authority does for one token, without what makes it safe to answer.
struct Maker {
    keys: MemoryKeys,
    id: KeyId,
    spiffe_id: SpiffeId,
    audience: Vec<String>,
}

impl Maker {
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_000_000);

    fn new() -> Self {
        let (keys, id): (_, KeyId) = (MemoryKeys::new(), "k".parse().unwrap());
        keys.generate(&id, Algorithm::Es256.signing().unwrap().0).unwrap();
        let spiffe_id = SpiffeId::new("spiffe://bench.test/ns/payments/sa/1").unwrap();
        Self { keys, id, spiffe_id, audience: vec!["reports".to_owned()] }
    }

    fn input(&self) -> String {
        let content = jwt_svid::Content {
            spiffe_id: &self.spiffe_id,
            audience: &self.audience,
            issued: Self::NOW,
            expires: Self::NOW + Duration::from_secs(300),
            token_id: "AAAAAAAAAAAAAAAAAAAAAAA",
        };
        signing_input(&jwt_svid::header(Algorithm::Es256, "k"), &content.claims())
    }

    fn token(&self) -> String {
        let mut text = self.input();
        let scheme = Algorithm::Es256.signing().unwrap().1;
        let signature = self.keys.sign(&self.id, scheme, text.as_bytes()).unwrap();
        finish(&mut text, &signature);
        text
    }

    fn bundle(&self) -> TrustBundle {
        let material = jwk::of_public(&self.keys.public(&self.id).unwrap()).unwrap();
        let key = spiffe_bridge::identity::TokenKey { kid: "k".into(), material };
        let domain = TrustDomain::new("bench.test").unwrap();
        TrustBundle::new(domain, Vec::new(), Default::default())
            .with_tokens(TokenKeys { jwt: vec![key], wit: Vec::new() })
    }
}
