//! How tokens are issued: keys made once and kept, on record before the answer, bounded.

use std::sync::Arc;

use spiffe_bridge::audit::Log;
use spiffe_bridge::authority::{self, CompleteError, Config};
use spiffe_bridge::clock::Clock;
use spiffe_bridge::jose::Algorithm;
use spiffe_bridge::keys::{KeyManager, MemoryKeys};

use super::forge::{AUDIENCE, WEB, verify};
use super::jwt::request;
use super::support::{NOW, ca, domain, in_memory};

#[tokio::test]
async fn a_token_is_on_record_when_it_comes_and_the_record_has_no_token() {
    let ca = ca().await;
    let issued = ca.authority.sign_token(request(WEB, &[AUDIENCE])).await.unwrap();
    let log = Log::open(ca.store.clone(), ca.clock.clone()).unwrap();
    let records = log.read(0, 100).unwrap();
    let of_token: Vec<_> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    let found: Vec<_> = of_token.iter().filter(|text| text.contains(&*issued.token_id)).collect();
    let [record] = &found[..] else { panic!("{of_token:?}") };
    for said in ["token.issued", "\"jwt\"", WEB, AUDIENCE] {
        assert!(record.contains(said), "{record}");
    }
    for part in issued.token.expose_text().split('.') {
        assert!(of_token.iter().all(|text| !text.contains(part)), "a credential is in the log");
    }
    assert!(!format!("{issued:?}").contains(issued.token.expose_text()));
}

#[tokio::test]
async fn the_keys_are_made_once_and_outlive_a_restart() {
    let (keys, store): (Arc<dyn KeyManager>, _) = (Arc::new(MemoryKeys::new()), in_memory());
    let (clock, _hands) = Clock::manual(NOW);
    let config = Config::new(domain());
    authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
    let log = || Log::open(store.clone(), clock.clone()).unwrap();
    let open =
        || authority::open(config.clone(), keys.clone(), store.clone(), log(), clock.clone()).unwrap().0;
    // A data directory from before there were tokens opens, and has none.
    let before = open().bundle().borrow().clone();
    assert!(before.tokens.jwt.is_empty() && before.tokens.wit.is_empty());
    authority::complete(&config, keys.clone(), &store, &log()).await.unwrap();
    let first = open().bundle().borrow().clone();
    assert_eq!((first.tokens.jwt.len(), first.tokens.wit.len()), (1, 1));
    assert!(first.version.revision > before.version.revision && first.version.hash != before.version.hash);
    let made = keys.list().unwrap();
    // Whatever is configured later, what there is stays.
    let other = Config { jwt_algorithm: Algorithm::Es384, ..config.clone() };
    authority::complete(&other, keys.clone(), &store, &log()).await.unwrap();
    assert_eq!(open().bundle().borrow().version, first.version);
    assert_eq!(keys.list().unwrap(), made);
}

#[tokio::test]
async fn es512_is_refused_with_advice() {
    let (keys, store) = (Arc::new(MemoryKeys::new()), in_memory());
    let (clock, _hands) = Clock::manual(NOW);
    let config = Config { jwt_algorithm: Algorithm::Es512, ..Config::new(domain()) };
    authority::init(&config, keys.clone(), &store, &clock).await.unwrap();
    let log = Log::open(store.clone(), clock).unwrap();
    let refused = authority::complete(&config, keys, &store, &log).await.unwrap_err();
    assert!(
        matches!(refused, CompleteError::Algorithm { .. }) && refused.to_string().contains("ES256"),
        "{refused}"
    );
}

#[tokio::test]
async fn many_at_once_are_issued_each_with_its_own() {
    let ca = ca().await;
    let tasks: Vec<_> = (0..2000)
        .map(|n| {
            let authority = ca.authority.clone();
            tokio::spawn(async move {
                authority
                    .sign_token(request(&format!("spiffe://example.org/w{n}"), &[AUDIENCE]))
                    .await
                    .unwrap()
            })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        let token = task.await.unwrap();
        let verified = verify(token.token.expose_text(), &ca.bundle).unwrap();
        assert_eq!(verified.spiffe_id.to_string(), format!("spiffe://example.org/w{n}"));
    }
}

#[tokio::test]
async fn others_domains_get_no_token() {
    let ca = ca().await;
    ca.authority.sign_token(request("spiffe://other.test/web", &[AUDIENCE])).await.unwrap_err();
    ca.authority.sign_token(request("spiffe://example.org", &[AUDIENCE])).await.unwrap_err();
}
