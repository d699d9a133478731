//! The names of whom to trust, asked for by somebody who may have them: what each stands for, in gRPC and in JSON.

use std::time::Duration;

use envoy_configs::NOBODY;
use integration::{poll, sds};
use tonic::Code;

use super::trusted::{Trusted, roots};
use super::world::{FRONT, WEB, World, declared, partner};
use super::{dialled, json, polled};

const DOMAINS: [&str; 4] = ["example.org", "json.test", "many.test", "partner.test"];

#[tokio::test(flavor = "multi_thread")]
async fn each_name_brings_the_roots_of_whom_it_stands_for_and_who_of_them_may_come() {
    let world = World::new().await;
    let check = async |name: &str, expected: Trusted| {
        assert_eq!(world.trusted(name).await, expected, "{name}");
    };
    let only = |domains: &[&str], ids: &[&str]| Trusted::only(world.by(domains), ids);
    let only_own = |ids: &[&str]| Trusted::only(world.under("example.org"), ids);
    check("ROOTCA", Trusted::anybody(world.under("example.org"))).await;
    for domain in ["example.org", "json.test", "partner.test"] {
        check(&format!("spiffe://{domain}"), Trusted::anybody(world.under(domain))).await;
    }
    check("spiffe://many.test", Trusted::anybody(world.under("many.test")).without_a_list()).await;
    check("ALL", Trusted::anybody(world.by(&DOMAINS)).without_a_list()).await;

    // A domain of which nobody is listed has no say, and with our own alone the stricter validator judges.
    check("peers", only(&["example.org", "partner.test"], &[WEB, FRONT])).await;
    check("peers:spiffe://example.org/api", only(&["example.org", "partner.test"], &[WEB, FRONT])).await;
    check("peers:spiffe://example.org/batch", only_own(&[WEB])).await;
    check("peers:spiffe://example.org/closed", only_own(&[NOBODY])).await;
    let databases = ["spiffe://example.org/db-1", "spiffe://example.org/db-2"];
    check("upstream:db.example.org", only_own(&databases)).await;

    for name in ["spiffe://other.test", "peers:spiffe://example.org/db-1", "upstream:api.example.org"] {
        assert_eq!(world.ask(&[name]).await.unwrap_err().code(), Code::NotFound, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_roots_of_a_partner_come_under_every_name_that_brings_it() {
    let mut world = World::new().await;
    let pem = partner("new", 1);
    world.roots.insert("partner.test", roots(pem.as_bytes()));
    world.server.write_documents("partner.test", &declared("partner.test", &pem)).unwrap();
    let expected = Trusted::anybody(world.under("partner.test"));
    let came = async || world.trusted("spiffe://partner.test").await == expected;
    poll::holds("the new root", Duration::from_secs(10), came).await.unwrap();
    let all = Trusted::anybody(world.by(&DOMAINS)).without_a_list();
    assert_eq!(world.trusted("ALL").await, all);
    let peers = Trusted::only(world.by(&["example.org", "partner.test"]), &[WEB, FRONT]);
    assert_eq!(world.trusted("peers").await, peers);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_says_what_grpc_says() {
    let world = World::new().await;
    let names = [
        "ALL",
        "ROOTCA",
        "default",
        "peers",
        "peers:spiffe://example.org/batch",
        "peers:spiffe://example.org/closed",
        "spiffe://json.test",
        "spiffe://many.test",
        "upstream:db.example.org",
    ];
    let mut rest = dialled(sds::dialled(&world.server.socket()).await.unwrap()).await;
    for asked in names.iter().map(std::slice::from_ref).chain([&names[..]]) {
        let (version, secrets) = world.ask(asked).await.unwrap();
        assert_eq!(secrets.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), asked);
        let (status, text) = polled(&mut rest, asked, "").await;
        assert_eq!((status, json::read(text)), (200, (version.clone(), secrets)), "{asked:?}");
        assert_eq!(polled(&mut rest, asked, &version).await.0, 304, "{asked:?}");
    }
}
