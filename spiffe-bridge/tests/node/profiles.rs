//! Identities of a profile.

use std::time::Duration;

use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::{WorkloadUpdate, X509Svid};
use spiffe_bridge::keys::{KeyType, PublicKey};
use spiffe_bridge::x509::inspect;

use super::bench::{Waiter, entry, index_of, now, released, start};

fn of_profile(name: &str, terms: &str) -> String {
    let entry = entry(name) + "profile: p\n";
    format!("---\nkind: Profile\nname: p\n{terms}{entry}")
}

fn key_type_of(svid: &X509Svid) -> KeyType {
    let leaf = inspect::parse(&svid.chain[0]).unwrap();
    PublicKey::from_spki(leaf.public_key().raw).unwrap().key_type()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_has_the_key_and_the_lifetime_of_its_profile() {
    for key_type in KeyType::ALL {
        let dir = tempfile::tempdir().unwrap();
        let terms = format!("key_type: {key_type}\nlifetime: 90s\n");
        let bench = start(dir.path(), &Clock::system(), &of_profile("web", &terms)).await;
        let waiter = Waiter::start();
        let svid = bench.attach(&waiter).until(|u| !u.identities.is_empty()).await.identities[0].svid.clone();
        assert_eq!(key_type_of(&svid), key_type);
        assert!(svid.not_after.since(now()) <= Duration::from_secs(90), "{key_type}");
        assert_eq!(bench.node.identities().await.unwrap()[0].key_type, key_type);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_changes_keeps_the_svid_until_its_successor_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), &Clock::system(), &of_profile("web", "key_type: ec-p256\n")).await;
    let waiter = Waiter::start();
    let mut attached = bench.attach(&waiter);
    let first = attached.until(|u| !u.identities.is_empty()).await.identities[0].svid.clone();
    // Another profile of the same terms is no reason to issue anything.
    bench.index.send_replace(index_of(2, &entry("web")));
    bench.node.identities().await.unwrap();
    // An RSA key takes a while to make: at no moment meanwhile is there no SVID, or two.
    bench.index.send_replace(index_of(3, &of_profile("web", "key_type: rsa-2048\n")));
    let mut shown = Vec::new();
    let rsa = |update: &WorkloadUpdate| {
        shown.push(update.identities.len());
        update.identities[0].svid.version != first.version
    };
    let second = attached.until(rsa).await.identities[0].svid.clone();
    assert!(shown.iter().all(|identities| *identities == 1), "{shown:?}");
    assert_eq!((key_type_of(&first), key_type_of(&second)), (KeyType::EcP256, KeyType::Rsa2048));
    assert_eq!(bench.authority.status().issued, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_svid_of_a_profile_too() {
    let dir = tempfile::tempdir().unwrap();
    let entries = of_profile("web", "key_type: ml-dsa-65\nlifetime: 2h\n");
    let waiter = Waiter::start();
    let mut versions = Vec::new();
    for _ in 0..2 {
        let bench = start(dir.path(), &Clock::system(), &entries).await;
        let update = bench.attach(&waiter).until(|u| !u.identities.is_empty()).await;
        versions.push(update.identities[0].svid.version);
        drop(bench);
        released(&dir.path().join("store.redb")).await;
    }
    assert_eq!(versions[0], versions[1]);
}
