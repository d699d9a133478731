//! Which places of a real Envoy really use a secret: several filter chains, a listener that can take none, a secret of
//! the wrong kind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use envoy_configs::Api;
use integration::mint::{Mint, Staple, update};
use integration::puppet::{DOMAIN, Stand};
use integration::{poll, ports};
use spiffe_bridge::identity::{
    Admitted, Identity, Memo, Reach, Trust, TrustBundle, WorkloadUpdate, X509Svid,
};
use spiffe_bridge::roster::{Enough, Means, NameRow, Standing, Wanted, Why};

const SOON: Duration = Duration::from_secs(30);
const OTHER: &str = "spiffe://lab.test/other";

/// What a caller with two identities holds: `default` is the first one.
fn both(first: &Arc<X509Svid>, second: &Arc<X509Svid>, bundle: &Arc<TrustBundle>) -> WorkloadUpdate {
    let mut update = update(first, bundle);
    update.identities.push(Identity { svid: second.clone(), hint: None });
    update
}

/// `text` with `find` replaced once, which must be there.
fn replaced(text: &str, find: &str, by: &str) -> String {
    assert!(text.contains(find), "{find}");
    text.replacen(find, by, 1)
}

/// What stands between the two lines, the first of them included.
fn part<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap();
    &text[start..start + text[start..].find(to).unwrap()]
}

const CHAIN: &str = "    - name: mesh\n";
const CHAINS_END: &str = "  # Plain text, so on loopback only";
const REQUIRED: &str = "          require_client_certificate: true\n";

/// The inbound listener with its filter chain three times, the third as `change` makes it.
fn with_three_chains(text: &str, change: impl Fn(String) -> String) -> String {
    let chain = part(text, CHAIN, CHAINS_END);
    // For callers from elsewhere: the match makes them three chains.
    let copy = |nth: usize| {
        let from = format!("{{ address_prefix: 10.{nth}.0.0, prefix_len: 16 }}");
        let head = format!(
            "    - name: mesh-{nth}\n      filter_chain_match: {{ source_prefix_ranges: [ {from} ] }}\n"
        );
        let copy = replaced(chain, CHAIN, &head);
        copy.replace("&sds", &format!("&sds{nth}")).replace("*sds ", &format!("*sds{nth} "))
    };
    let chains = format!("{chain}{}{}", copy(2), change(copy(3)));
    replaced(text, chain, &chains)
}

/// Contexts of listeners that were rebuilt.
async fn rebuilt(stand: &Stand) -> u64 {
    let stats = stand.envoy.stats().await.unwrap();
    stats.sum("listener.", ".server_ssl_socket_factory.ssl_context_update_by_sds")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_filter_chains_use_is_proved_when_each_of_them_does() {
    let mut mint = Mint::new(DOMAIN).unwrap();
    let (web, other) =
        (mint.svid("/web", 1, Staple::Free).unwrap(), mint.svid("/other", 1, Staple::Free).unwrap());
    let roots = mint.bundle(1, 0).unwrap();
    let of_other = |chain: String| replaced(&chain, "- name: \"default\"", &format!("- name: {OTHER}"));
    let change = |text: String| with_three_chains(&text, of_other);
    let stand = Stand::start(both(&web, &other, &roots), Api::Delta, change).await.unwrap();
    // Six contexts of three names rose at once: how many each has is not told yet.
    for name in ["default", OTHER, "ROOTCA"] {
        stand.stands(name, 1, Standing::PossiblyApplied).await.unwrap();
    }
    let mut expected = rebuilt(&stand).await;

    // Roots go to all three, and once more in other bytes: the first time tells how many there are.
    let more = mint.bundle(2, 1).unwrap();
    stand.puppet.serve(both(&web, &other, &more));
    assert_eq!(stand.stands("ROOTCA", 2, Standing::ProvedApplied).await.unwrap().dress, 1);
    expected += 3 + 3;
    assert_eq!(rebuilt(&stand).await, expected);
    // One certificate goes to two of them, the other to one. The counter is of the listener.
    let mut second = other;
    for (revision, standing) in [(3, Standing::PossiblyApplied), (4, Standing::ProvedApplied)] {
        let first = mint.svid("/web", revision, Staple::Free).unwrap();
        stand.puppet.serve(both(&first, &second, &more));
        stand.stands("default", revision, standing).await.unwrap();
        expected += 2;
        assert_eq!(rebuilt(&stand).await, expected);
        second = mint.svid("/other", revision, Staple::Free).unwrap();
        stand.puppet.serve(both(&first, &second, &more));
        stand.stands(OTHER, revision, standing).await.unwrap();
        expected += 1;
        assert_eq!(rebuilt(&stand).await, expected);
    }
    // All at once.
    let first = mint.svid("/web", 5, Staple::Free).unwrap();
    second = mint.svid("/other", 6, Staple::Free).unwrap();
    stand.puppet.serve(both(&first, &second, &mint.bundle(7, 2).unwrap()));
    for (name, revision) in [("default", 5), (OTHER, 6), ("ROOTCA", 7)] {
        stand.stands(name, revision, Standing::ProvedApplied).await.unwrap();
    }
    assert_eq!(rebuilt(&stand).await, expected + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_filter_chains_one_refuses_and_the_certificate_is_possibly_applied() {
    let mut mint = Mint::new(DOMAIN).unwrap();
    let (first, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let stapling = |chain: String| {
        replaced(&chain, REQUIRED, &format!("{REQUIRED}          ocsp_staple_policy: MUST_STAPLE\n"))
    };
    let change = |text: String| with_three_chains(&text, stapling);
    let stand = Stand::start(update(&first, &roots), Api::Delta, change).await.unwrap();
    for revision in 2..=3 {
        let before = rebuilt(&stand).await;
        let next = mint.svid("/web", revision, Staple::Free).unwrap();
        stand.puppet.serve(update(&next, &roots));
        let row = stand.stands("default", revision, Standing::PossiblyApplied).await.unwrap();
        assert_eq!((row.means, &*row.refusals.last().unwrap().kind), (Means::Statistics, "ocsp"));
        assert!(rebuilt(&stand).await < before + 3, "not all three");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_can_take_no_certificate_refuses_it_and_nothing_is_in_use() {
    let mut mint = Mint::new(DOMAIN).unwrap();
    let (web, other) =
        (mint.svid("/web", 1, Staple::Free).unwrap(), mint.svid("/other", 1, Staple::Free).unwrap());
    let roots = mint.bundle(1, 0).unwrap();
    // The listener alone has `default`, and wants an OCSP response that no certificate of ours comes with.
    let change = |text: String| {
        let text =
            replaced(&text, REQUIRED, &format!("{REQUIRED}          ocsp_staple_policy: MUST_STAPLE\n"));
        replaced(&text, "{ name: \"default\",", &format!("{{ name: {OTHER},"))
    };
    let stand = Stand::start(both(&web, &other, &roots), Api::Delta, change).await.unwrap();
    // At its start the listener's counter rose too, by roots: whether the certificate was among it cannot be told.
    let refused = |row: &NameRow| !row.refusals.is_empty();
    let row = stand.until("the first is refused", "default", refused).await.unwrap();
    assert!(matches!(row.standing, Standing::Refused | Standing::PossiblyApplied), "{row:?}");
    for revision in 2..=3 {
        let next = mint.svid("/web", revision, Staple::Free).unwrap();
        stand.puppet.serve(both(&next, &other, &roots));
        let row = stand.stands("default", revision, Standing::Refused).await.unwrap();
        assert_eq!(&*row.refusals.last().unwrap().kind, "ocsp", "{row:?}");
        let answer = stand.puppet.roster().missing("default", Wanted::LastSent, Enough::Acknowledgement);
        assert_eq!(answer.missing[0].why, Why::Refused);
        assert_eq!(stand.envoy.serial("spiffe://lab.test/web").await.unwrap(), None, "no handshake gets it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_a_listener_takes_for_its_certificate_are_never_proved() {
    let mut mint = Mint::new(DOMAIN).unwrap();
    let (web, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let change = |text: String| replaced(&text, "- name: \"default\"", "- name: \"ROOTCA\"");
    let stand = Stand::start(update(&web, &roots), Api::Delta, change).await.unwrap();
    for revision in 1..=2 {
        let fits = |row: &NameRow| {
            row.version.revision.0 == revision
                && matches!(row.standing, Standing::Refused | Standing::PossiblyApplied)
        };
        let row = stand.until("the wrong kind is refused", "ROOTCA", fits).await.unwrap();
        assert_eq!(&*row.refusals.last().unwrap().kind, "key_missing", "{row:?}");
        let answer = stand.puppet.roster().missing("ROOTCA", Wanted::LastSent, Enough::Proof);
        assert!(!answer.is_complete(), "{answer:?}");
        stand.puppet.serve(update(&web, &mint.bundle(2, 1).unwrap()));
    }
}

/// The inbound listener twice, on another port the second time.
fn with_a_second_listener(text: String) -> String {
    let first = part(&text, "  - name: inbound\n", CHAINS_END);
    let copy = replaced(first, "name: inbound", "name: second").replace("&sds", "&sds2");
    let copy = copy.replace("*sds ", "*sds2 ").replace("*sds\n", "*sds2\n");
    let port = part(&copy, "port_value: ", " }").to_owned();
    let copy = replaced(&copy, &port, &format!("port_value: {}", ports::free().unwrap().port()));
    replaced(&text, first, &format!("{first}{copy}"))
}

/// How often each listener and cluster has taken a change, in the order of their names.
async fn taken(stand: &Stand) -> Vec<u64> {
    let stats = stand.envoy.stats().await.unwrap();
    let names = ["cluster.upstream.client", "listener."];
    let mut all = Vec::new();
    for name in names {
        all.extend(stats.each(name, "_ssl_socket_factory.ssl_context_update_by_sds"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn two_listeners_and_a_cluster_of_one_secret_are_proved_together_and_one_refusal_is_told() {
    let mut mint = Mint::new(DOMAIN).unwrap();
    let (first, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let stand = Stand::start(update(&first, &roots), Api::Delta, with_a_second_listener).await.unwrap();
    for name in ["default", "ROOTCA"] {
        stand.stands(name, 1, Standing::ProvedApplied).await.unwrap();
    }
    assert_eq!(taken(&stand).await, [2, 2, 2]);
    let second = mint.svid("/web", 2, Staple::Free).unwrap();
    stand.puppet.serve(update(&second, &mint.bundle(2, 1).unwrap()));
    for name in ["default", "ROOTCA"] {
        let row = stand.stands(name, 2, Standing::ProvedApplied).await.unwrap();
        assert_eq!(row.dress, 0, "proved as it came");
    }
    assert_eq!(taken(&stand).await, [4, 4, 4]);

    // A certificate that both listeners refuse. What is told of it must be what the three really did.
    let roots = mint.bundle(2, 1).unwrap();
    stand.puppet.serve(update(&second, &roots));
    stand.stands("ROOTCA", 2, Standing::ProvedApplied).await.unwrap();
    let before = taken(&stand).await;
    stand.puppet.serve(update(&mint.svid("/web", 3, Staple::Must).unwrap(), &roots));
    let told = |row: &NameRow| row.version.revision.0 == 3 && row.means == Means::Statistics;
    let row = stand.until("the counters tell of the refusal", "default", told).await.unwrap();
    let expected = if taken(&stand).await == before { Standing::Refused } else { Standing::PossiblyApplied };
    assert_eq!((row.standing, &*row.refusals[0].kind), (expected, "ocsp"), "{row:?}");
    let answer = stand.puppet.roster().missing("default", Wanted::LastSent, Enough::Acknowledgement);
    assert!(!answer.is_complete(), "{answer:?}");
    // The next one heals it, and is proved: how many contexts there are was not forgotten.
    stand.puppet.serve(update(&mint.svid("/web", 4, Staple::Free).unwrap(), &roots));
    stand.stands("default", 4, Standing::ProvedApplied).await.unwrap();
}

/// What a caller holds who may trust another domain too: `ALL` is there.
fn with_all(first: &Arc<X509Svid>, roots: &Arc<TrustBundle>, other: &Arc<TrustBundle>) -> WorkloadUpdate {
    let all = Trust {
        bundles: vec![roots.clone(), other.clone()],
        admitted: Admitted::Everybody,
        revision: roots.version.revision,
        memo: Memo::default(),
    };
    let reach = Reach { all: Some(Arc::new(all)), ..Reach::default() };
    WorkloadUpdate { reach: Arc::new(reach), ..update(first, roots) }
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_that_wait_for_their_roots_are_proved_when_these_come() {
    let mut mint = Mint::new(DOMAIN).unwrap();
    let (first, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let other = Mint::new("other.test").unwrap().bundle(1, 0).unwrap();
    let change = |text: String| with_a_second_listener(text).replace("ROOTCA", "ALL");
    let stand = Stand::start(update(&first, &roots), Api::Delta, change).await.unwrap();
    let told = |row: &NameRow| row.standing == Standing::Acknowledged;
    stand.until("the certificate came alone", "default", told).await.unwrap();
    poll::holds("it was told to all of them", SOON, async || taken(&stand).await == [1, 1, 1]).await.unwrap();
    // Some flushes in which nothing is in use.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stand.row("default").unwrap().standing, Standing::Acknowledged, "0 of 0 is unknown");
    stand.puppet.serve(with_all(&first, &roots, &other));
    for name in ["default", "ALL"] {
        let row = stand.stands(name, 1, Standing::ProvedApplied).await.unwrap();
        assert_eq!(row.dress, 0, "proved as it came");
    }
    assert_eq!(taken(&stand).await, [2, 2, 2]);
    stand.puppet.serve(with_all(&first, &mint.bundle(2, 1).unwrap(), &other));
    assert_eq!(stand.stands("ALL", 2, Standing::ProvedApplied).await.unwrap().dress, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_waited_for_its_roots_while_a_listener_worked_is_counted_from_there() {
    let mut mint = Mint::new(DOMAIN).unwrap();
    let (first, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let other = Mint::new("other.test").unwrap().bundle(1, 0).unwrap();
    // The cluster alone wants `ALL`, which there is not yet.
    let change = |text: String| {
        let at = text.rfind("ROOTCA").unwrap();
        assert!(at > text.find("\n  clusters:").unwrap(), "of the cluster");
        format!("{}ALL{}", &text[..at], &text[at + "ROOTCA".len()..])
    };
    let stand = Stand::start(update(&first, &roots), Api::Delta, change).await.unwrap();
    for name in ["default", "ROOTCA"] {
        stand.stands(name, 1, Standing::ProvedApplied).await.unwrap();
    }
    assert_eq!(taken(&stand).await, [1, 2], "the cluster has heard of the certificate");
    stand.puppet.serve(with_all(&first, &roots, &other));
    // Once more in other bytes: the first time tells how many there are.
    let row = stand.stands("ALL", 1, Standing::ProvedApplied).await.unwrap();
    assert!(row.dress <= 1, "{row:?}");
    assert_eq!(taken(&stand).await[1], 2, "the listener has nothing to do with it");
}
