//! What real Envoys refuse: told apart, remembered, never sent again, and healed where it can be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use envoy_configs::{Admin, Callee, Callers, Kind, Receipts, Settings, render};
use integration::envoy::Envoy;
use integration::mint::{Mint, Staple, update};
use integration::puppet::Puppet;
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::{poll, ports};
use spiffe_bridge::identity::Version;
use spiffe_bridge::roster::{Enough, Means, NameRow, Standing, Wanted, Why};

const SOON: Duration = Duration::from_secs(30);

/// A sidecar's bootstrap that is served by `puppet`, changed.
fn bootstrap(scratch: &Scratch, puppet: &Puppet, change: impl FnOnce(String) -> String) -> String {
    let callee = Callee::Workload("spiffe://lab.test/api".parse().unwrap());
    let mut settings = Settings::new(Kind::Sidecar, "lab.test".parse().unwrap(), callee);
    settings.socket = puppet.socket().to_path_buf();
    settings.inbound = ports::free().unwrap();
    settings.outbound = ports::free().unwrap();
    settings.app = ports::free().unwrap();
    settings.callers = Callers::Domain;
    settings.receipts = Receipts::Every(Duration::from_millis(200));
    settings.admin = Admin::Unix(Envoy::admin_socket(scratch, "envoy"));
    change(render(Kind::Sidecar, &settings).unwrap())
}

fn start(scratch: &Scratch, bootstrap: &str) -> Envoy {
    let seat = Seats::here().take(scratch, 0).unwrap();
    Envoy::start(scratch, "envoy", &seat, bootstrap).unwrap()
}

/// What the roster has of `name`, of the one member that there is.
fn row(puppet: &Puppet, name: &str) -> Option<NameRow> {
    let members = puppet.streams().snapshot();
    let holder = members.first()?.holder.as_ref()?.parse().unwrap();
    puppet.roster().names_of(&holder).into_iter().find(|(of, _)| &**of == name).map(|(_, row)| row)
}

async fn stands(puppet: &Puppet, envoy: &Envoy, name: &str, revision: u64, standing: Standing) -> NameRow {
    let what = format!("{name} at {revision} is {standing:?}");
    let found = poll::until(&what, SOON, async || {
        row(puppet, name).filter(|row| (row.version.revision.0, row.standing) == (revision, standing))
    });
    found.await.unwrap_or_else(|error| {
        panic!("{error}: {:?} {:?}\n{}", row(puppet, "ROOTCA"), row(puppet, "default"), envoy.tail())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_were_refused_beside_a_certificate_are_in_use_when_it_is_replaced() {
    let mut mint = Mint::new("lab.test").unwrap();
    let scratch = Scratch::new().unwrap();
    let (good, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let puppet = Puppet::start(&scratch, update(&good, &roots)).await.unwrap();
    let mut envoy = start(&scratch, &bootstrap(&scratch, &puppet, |text| text));
    envoy.live().await.unwrap();
    stands(&puppet, &envoy, "default", 1, Standing::ProvedApplied).await;
    stands(&puppet, &envoy, "ROOTCA", 1, Standing::ProvedApplied).await;

    // The listener refuses it, for want of an OCSP response; the cluster took it.
    let bad = mint.svid("/web", 2, Staple::Must).unwrap();
    puppet.serve(update(&bad, &roots));
    let refused = poll::until("the certificate is refused", SOON, async || {
        row(&puppet, "default").filter(|row| row.version.revision.0 == 2 && !row.refusals.is_empty())
    });
    let refused = refused.await.unwrap();
    assert!(matches!(refused.standing, Standing::Refused | Standing::PossiblyApplied), "{refused:?}");
    assert_eq!(&*refused.refusals[0].kind, "ocsp");

    // Good roots are refused with it: that context is frozen.
    let more = mint.bundle(3, 1).unwrap();
    puppet.serve(update(&bad, &more));
    let frozen = poll::until("the roots are refused", SOON, async || {
        row(&puppet, "ROOTCA").filter(|row| row.version.revision.0 == 3 && !row.refusals.is_empty())
    });
    let frozen =
        frozen.await.unwrap_or_else(|e| panic!("{e}: {:?}\n{}", row(&puppet, "ROOTCA"), envoy.tail()));
    assert!(matches!(frozen.standing, Standing::Refused | Standing::PossiblyApplied), "{frozen:?}");
    let why =
        puppet.roster().missing("ROOTCA", Wanted::Exactly(frozen.version), Enough::Proof).missing[0].why;
    assert!(matches!(why, Why::Refused | Why::PossiblyApplied));

    // A good certificate comes; the roots come again by themselves, in other bytes.
    let better = mint.svid("/web", 4, Staple::Free).unwrap();
    puppet.serve(update(&better, &more));
    let healed = stands(&puppet, &envoy, "ROOTCA", 3, Standing::ProvedApplied).await;
    assert_eq!((healed.version, healed.dress >= 1), (frozen.version, true), "{healed:?}");
    assert_eq!(healed.means, Means::Statistics);
    stands(&puppet, &envoy, "default", 4, Standing::ProvedApplied).await;
    // Envoy's own word: both roots are in use.
    let certs = envoy.certs().await.unwrap().to_string();
    assert!(certs.matches("\"ca_cert\"").count() >= 2, "{certs}");
    let answer = puppet.roster().missing("ROOTCA", Wanted::Exactly(frozen.version), Enough::Proof);
    assert!(answer.is_complete(), "{answer:?}");
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
    let scratch = Scratch::new().unwrap();
    let (first, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let puppet = Puppet::start(&scratch, update(&first, &roots)).await.unwrap();
    let mut envoy = start(&scratch, &bootstrap(&scratch, &puppet, with_a_second_that_must_staple));
    envoy.live().await.unwrap();
    // From the second push on the counters tell what the answer alone does not.
    for revision in 2..=3 {
        let next = mint.svid("/web", revision, Staple::Free).unwrap();
        puppet.serve(update(&next, &roots));
        let row = stands(&puppet, &envoy, "default", revision, Standing::PossiblyApplied).await;
        assert_eq!((row.means, &*row.refusals.last().unwrap().kind), (Means::Statistics, "ocsp"));
        let serial = next.serial.to_string();
        let served = envoy.serial("spiffe://lab.test/web").await.unwrap();
        assert_eq!(served, Some(serial), "the first listener really uses it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_not_sent_again_over_a_restart_of_the_server() {
    let mut mint = Mint::new("lab.test").unwrap();
    let scratch = Scratch::new().unwrap();
    let (good, roots) = (mint.svid("/web", 1, Staple::Free).unwrap(), mint.bundle(1, 0).unwrap());
    let mut puppet = Puppet::start(&scratch, update(&good, &roots)).await.unwrap();
    let mut envoy = start(&scratch, &bootstrap(&scratch, &puppet, |text| text));
    envoy.live().await.unwrap();
    stands(&puppet, &envoy, "default", 1, Standing::ProvedApplied).await;
    let bad = mint.svid("/web", 2, Staple::Must).unwrap();
    puppet.serve(update(&bad, &roots));
    poll::holds("the certificate is refused", SOON, async || {
        row(&puppet, "default").is_some_and(|row| !row.refusals.is_empty())
    })
    .await
    .unwrap();

    puppet.restart().await.unwrap();
    let reconnected = poll::until("Envoy is back", SOON, async || {
        let streams = puppet.streams().snapshot();
        let names: Vec<_> = streams.into_iter().flat_map(|stream| stream.names).collect();
        (names.len() == 2).then_some(names)
    });
    let names = reconnected.await.unwrap();
    let of_leaf = names.iter().find(|name| name.name == "default").unwrap();
    let sent: Option<Version> = of_leaf.version;
    assert!(sent.is_none_or(|version| version.revision.0 != 2), "{of_leaf:?}");
    let rejected = envoy.stats().await.unwrap().get("sds.default.update_rejected");
    assert_eq!(rejected, 1, "it was sent once");

    // Nothing is proved right after a start, roots neither.
    let why = puppet.roster().missing("ROOTCA", Wanted::LastSent, Enough::Proof).missing[0].why;
    assert!(matches!(why, Why::NotProved | Why::AcknowledgedOnly), "{why:?}");
    // Good ones go out. The first is not proved: no flush is from before it, or how many contexts there are is not known.
    let mut standings = Vec::new();
    for revision in 3..20 {
        let next = mint.svid("/web", revision, Staple::Free).unwrap();
        puppet.serve(update(&next, &roots));
        let told = poll::until("the counters tell something", Duration::from_secs(2), async || {
            row(&puppet, "default")
                .filter(|row| row.version.revision.0 == revision && row.means == Means::Statistics)
        });
        standings.push(told.await.map_or(Standing::Acknowledged, |row| row.standing));
        if standings.last() == Some(&Standing::ProvedApplied) {
            break;
        }
    }
    assert!(standings.len() > 1 && standings.last() == Some(&Standing::ProvedApplied), "{standings:?}");
    assert_eq!(envoy.stats().await.unwrap().get("sds.default.update_rejected"), 1);
    // And so are roots, by being sent once more in other bytes.
    let latest = mint.svid("/web", 30, Staple::Free).unwrap();
    puppet.serve(update(&latest, &mint.bundle(31, 1).unwrap()));
    let row = stands(&puppet, &envoy, "ROOTCA", 31, Standing::ProvedApplied).await;
    assert!(row.dress <= 1, "{row:?}");
}
