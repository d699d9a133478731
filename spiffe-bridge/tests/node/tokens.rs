//! The pace of tokens.

use std::time::Duration;

use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::SpiffeId;
use spiffe_bridge::node::{TOKEN_BURST, TOKENS_PER_SECOND, TokenRefused, TokenSpec, Want};
use spiffe_bridge::roster::HolderKey;

use super::bench::{DOMAIN, Waiter, entry, now, start};

fn id(name: &str) -> SpiffeId {
    format!("spiffe://{DOMAIN}/{name}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tokens_of_an_identity_come_at_a_pace_that_its_callers_share() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(now());
    let bench = start(dir.path(), &clock, &entry("web")).await;
    let ask = async |caller: &str, name: &str, audience: u32| {
        let (caller, audience) = (HolderKey::Remote(caller.into()), vec![audience.to_string()]);
        bench.node.token(Some(caller), id(name), TokenSpec::Jwt { audience }).await.map(drop)
    };
    let all = TOKEN_BURST / 2;
    for audience in 0..all {
        ask("greedy", "web", audience).await.unwrap();
    }
    assert_eq!(ask("greedy", "web", all).await, Err(TokenRefused::TooFast));
    ask("greedy", "web", all - 1).await.expect("what is there already");
    ask("greedy", "api", 0).await.expect("another identity");
    for audience in 0..TOKEN_BURST / 4 {
        ask("twin", "web", all + audience).await.expect("another caller of the same identity");
    }
    hands.advance(Duration::from_secs(8));
    for audience in 0..TOKENS_PER_SECOND {
        ask("greedy", "web", TOKEN_BURST + audience).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_pace_refused_comes_when_the_pace_allows_it_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(now());
    let bench = start(dir.path(), &clock, &entry("web")).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    attached.until(|u| !u.identities.is_empty()).await;
    let caller = attached.session.holder().cloned();
    let ask = async |audience: u32| {
        let audience = vec![format!("other {audience}")];
        bench.node.token(caller.clone(), id("web"), TokenSpec::Jwt { audience }).await.map(drop)
    };
    for audience in 0..TOKEN_BURST / 2 {
        ask(audience).await.unwrap();
    }
    assert_eq!(ask(TOKEN_BURST).await, Err(TokenRefused::TooFast));
    let mut interest = attached.session.interest();
    interest.set(["reports", "billing"].map(|audience| Want::Jwt(audience.into())).into());
    let early = tokio::time::timeout(Duration::from_secs(2), attached.until(|u| !u.jwt_svids.is_empty()));
    assert!(early.await.is_err(), "the clock stands, and the share is used up");
    hands.advance(Duration::from_secs(1));
    attached.until(|u| u.jwt_svids.len() == 2).await;
}
