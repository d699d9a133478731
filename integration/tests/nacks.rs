//! What real Envoys refuse: told apart, remembered, never sent again, and healed where it can be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use envoy_configs::Api;
use integration::mint::{Mint, Staple, update};
use integration::puppet::Stand;
use integration::{poll, ports};
use spiffe_bridge::identity::{Admitted, Memo, Reach, Trust, TrustBundle, Version, WorkloadUpdate, X509Svid};
use spiffe_bridge::roster::{Enough, Means, NameRow, Standing, Wanted, Why};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_were_refused_beside_a_certificate_are_in_use_when_it_is_replaced() {
    heal(Api::Delta, "ROOTCA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_were_refused_beside_a_certificate_over_ads_are_in_use_when_it_is_replaced() {
    heal(Api::Ads, "ROOTCA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_of_several_domains_that_were_refused_come_again_for_the_spiffe_validator() {
    heal(Api::Delta, "ALL").await;
}

/// What a caller holds, `ALL` included: `bundle`, and that of another domain.
fn served(svid: &Arc<X509Svid>, bundle: &Arc<TrustBundle>, other: &Arc<TrustBundle>) -> WorkloadUpdate {
    let all = Trust {
        bundles: vec![bundle.clone(), other.clone()],
        admitted: Admitted::Everybody,
        revision: bundle.version.revision,
        memo: Memo::default(),
    };
    let reach = Reach { all: Some(Arc::new(all)), ..Reach::default() };
    WorkloadUpdate { reach: Arc::new(reach), ..update(svid, bundle) }
}

/// The roots are those of `name`.
async fn heal(api: Api, name: &str) {
    let other = Mint::new("other.test").unwrap().bundle(1, 0).unwrap();
    let update = |svid: &_, bundle: &_| served(svid, bundle, &other);
    let of_name = |text: String| text.replace("ROOTCA", name);
    let mut mint = Mint::new("lab.test").unwrap();
    let (good, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let stand = Stand::start(update(&good, &roots), api, of_name).await.unwrap();
    stand.stands("default", 1, Standing::ProvedApplied).await.unwrap();
    stand.stands(name, 1, Standing::ProvedApplied).await.unwrap();

    // The listener refuses it, for want of an OCSP response; the cluster took it.
    let bad = mint.svid("/web", 2, Staple::Must).unwrap();
    stand.puppet.serve(update(&bad, &roots));
    let refused = poll::until("the certificate is refused", SOON, async || {
        stand.row("default").filter(|row| row.version.revision.0 == 2 && !row.refusals.is_empty())
    });
    let refused = refused.await.unwrap();
    assert!(matches!(refused.standing, Standing::Refused | Standing::PossiblyApplied), "{refused:?}");
    assert_eq!(&*refused.refusals[0].kind, "ocsp");

    // Good roots are refused with it: that context is frozen.
    let more = mint.bundle(3, 1).unwrap();
    stand.puppet.serve(update(&bad, &more));
    // Its counters have told of it, too, so that they are not told together with what comes next.
    let is_refused = |row: &NameRow| {
        (row.version.revision.0, row.means) == (3, Means::Statistics) && !row.refusals.is_empty()
    };
    let frozen = stand.until("the roots are refused", name, is_refused).await.unwrap();
    assert!(matches!(frozen.standing, Standing::Refused | Standing::PossiblyApplied), "{frozen:?}");
    let why =
        stand.puppet.roster().missing(name, Wanted::Exactly(frozen.version), Enough::Proof).missing[0].why;
    assert!(matches!(why, Why::Refused | Why::PossiblyApplied));

    // A good certificate comes; the roots come again by themselves, in other bytes.
    let better = mint.svid("/web", 4, Staple::Free).unwrap();
    stand.puppet.serve(update(&better, &more));
    let healed = stand.stands(name, 3, Standing::ProvedApplied).await.unwrap();
    assert_eq!((healed.version, healed.dress >= 1), (frozen.version, true), "{healed:?}");
    assert_eq!(healed.means, Means::Statistics);
    // Envoy's own word, of the validator that lists its roots: both are in use.
    let certs = stand.envoy.certs().await.unwrap().to_string();
    assert!(name == "ALL" || certs.matches("\"ca_cert\"").count() >= 2, "{certs}");
    let answer = stand.puppet.roster().missing(name, Wanted::Exactly(frozen.version), Enough::Proof);
    assert!(answer.is_complete(), "{answer:?}");
    // Where its counters rose together with those of the roots it cannot be told; then a renewal proves it.
    for revision in 4..=7 {
        let is_judged = |row: &NameRow| {
            row.version.revision.0 == revision
                && matches!(row.standing, Standing::ProvedApplied | Standing::PossiblyApplied)
        };
        let row = stand.until("the certificate is judged", "default", is_judged).await.unwrap();
        if row.standing == Standing::ProvedApplied {
            break;
        }
        assert!(revision < 7, "{row:?}");
        let next = mint.svid("/web", revision + 1, Staple::Free).unwrap();
        stand.puppet.serve(update(&next, &more));
    }
}

/// The inbound listener twice, the second with a policy that no certificate of ours meets.
fn with_a_second_that_must_staple(text: String) -> String {
    let start = text.find("  - name: inbound\n").unwrap();
    let end = start + text[start..].find("  # Plain text, so on loopback only").unwrap();
    let port = ports::free().unwrap().port();
    let mut copy = text[start..end].replacen("name: inbound", "name: stapling", 1).replace("&sds", "&sds2");
    copy = copy.replace("*sds ", "*sds2 ").replace("*sds\n", "*sds2\n");
    let address = copy.find("port_value: ").unwrap() + "port_value: ".len();
    let digits = copy[address..].find(|c: char| !c.is_ascii_digit()).unwrap();
    copy.replace_range(address..address + digits, &port.to_string());
    let line = copy.lines().find(|line| line.trim_start() == "require_client_certificate: true").unwrap();
    let indent = &line[..line.len() - line.trim_start().len()];
    let copy = copy.replacen(line, &format!("{line}\n{indent}ocsp_staple_policy: MUST_STAPLE"), 1);
    format!("{}{copy}{}", &text[..end], &text[end..])
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_listeners_one_refuses_and_the_certificate_is_possibly_applied() {
    let mut mint = Mint::new("lab.test").unwrap();
    let (first, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let stand =
        Stand::start(update(&first, &roots), Api::Delta, with_a_second_that_must_staple).await.unwrap();
    // From the second push on the counters tell what the answer alone does not.
    for revision in 2..=3 {
        let next = mint.svid("/web", revision, Staple::Free).unwrap();
        stand.puppet.serve(update(&next, &roots));
        let row = stand.stands("default", revision, Standing::PossiblyApplied).await.unwrap();
        assert_eq!((row.means, &*row.refusals.last().unwrap().kind), (Means::Statistics, "ocsp"));
        let serial = next.serial.to_string();
        let served = stand.envoy.serial("spiffe://lab.test/web").await.unwrap();
        assert_eq!(served, Some(serial), "the first listener really uses it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_not_sent_again_over_a_restart_of_the_server() {
    let mut mint = Mint::new("lab.test").unwrap();
    let (good, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let mut stand = Stand::start(update(&good, &roots), Api::Delta, |text| text).await.unwrap();
    stand.stands("default", 1, Standing::ProvedApplied).await.unwrap();
    let bad = mint.svid("/web", 2, Staple::Must).unwrap();
    stand.puppet.serve(update(&bad, &roots));
    poll::holds("the certificate is refused", SOON, async || {
        stand.row("default").is_some_and(|row| !row.refusals.is_empty())
    })
    .await
    .unwrap();

    stand.puppet.restart().await.unwrap();
    let reconnected = poll::until("Envoy is back", SOON, async || {
        let streams = stand.puppet.streams().snapshot();
        let names: Vec<_> = streams.into_iter().flat_map(|stream| stream.names).collect();
        (names.len() == 2).then_some(names)
    });
    let names = reconnected.await.unwrap();
    let of_leaf = names.iter().find(|name| name.name == "default").unwrap();
    let sent: Option<Version> = of_leaf.version;
    assert!(sent.is_none_or(|version| version.revision.0 != 2), "{of_leaf:?}");
    let rejected = stand.envoy.stats().await.unwrap().get("sds.default.update_rejected");
    assert_eq!(rejected, 1, "it was sent once");

    // Nothing is proved right after a start, roots neither.
    let why = stand.puppet.roster().missing("ROOTCA", Wanted::LastSent, Enough::Proof).missing[0].why;
    assert!(matches!(why, Why::NotProved | Why::AcknowledgedOnly), "{why:?}");
    // Good ones go out. The first is not proved: no flush is from before it, or how many contexts there are is not known.
    let mut standings = Vec::new();
    for revision in 3..20 {
        let next = mint.svid("/web", revision, Staple::Free).unwrap();
        stand.puppet.serve(update(&next, &roots));
        let told = poll::until("the counters tell something", Duration::from_secs(2), async || {
            stand
                .row("default")
                .filter(|row| row.version.revision.0 == revision && row.means == Means::Statistics)
        });
        standings.push(told.await.map_or(Standing::Acknowledged, |row| row.standing));
        if standings.last() == Some(&Standing::ProvedApplied) {
            break;
        }
    }
    assert!(standings.len() > 1 && standings.last() == Some(&Standing::ProvedApplied), "{standings:?}");
    assert_eq!(stand.envoy.stats().await.unwrap().get("sds.default.update_rejected"), 1);
    // And so are roots, by being sent once more in other bytes.
    let latest = mint.svid("/web", 30, Staple::Free).unwrap();
    stand.puppet.serve(update(&latest, &mint.bundle(31, 1).unwrap()));
    let row = stand.stands("ROOTCA", 31, Standing::ProvedApplied).await.unwrap();
    assert!(row.dress <= 1, "{row:?}");
}
