//! The X.509 profile, and what all profiles have in common.

use std::sync::Arc;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sds_server::proto::workload::{
    DESCRIPTORS, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use spiffe_bridge::identity::{Admitted, Memo, Reach, Revision, Trust, TrustBundle, WorkloadUpdate};
use spiffe_bridge::node::{EndReason, SessionState};
use tonic::Code;
use tonic::codec::Streaming;

use super::fixture::xds::{API, WEB, nothing, silent};
use super::fixture::{Served, entitled, first, holding, next, serve};

async fn svids(served: &Served) -> Streaming<X509svidResponse> {
    served.stream("FetchX509SVID", X509svidRequest {}).await.unwrap()
}

async fn bundles(served: &Served) -> Streaming<X509BundlesResponse> {
    served.stream("FetchX509Bundles", X509BundlesRequest {}).await.unwrap()
}

fn ids(response: &X509svidResponse) -> Vec<&str> {
    response.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

/// The roots of its own domain, one behind the other.
fn roots(update: &WorkloadUpdate) -> Vec<u8> {
    let roots = &update.bundle.as_ref().unwrap().roots;
    roots.iter().flat_map(|root| root.iter().copied()).collect()
}

/// Names and numbers of the standard's service, written down here once more.
#[test]
fn wa_02_the_service_is_the_standards_and_no_more() {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let file = set.file.iter().find(|file| file.name() == "workload.proto").unwrap();
    assert_eq!(file.package(), "");
    let [service] = &file.service[..] else { panic!("one service") };
    assert_eq!(service.name(), "SpiffeWorkloadAPI");
    let methods: Vec<_> = service.method.iter().map(|m| (m.name(), m.server_streaming())).collect();
    let standard = [
        ("FetchX509SVID", true),
        ("FetchX509Bundles", true),
        ("FetchJWTSVID", false),
        ("FetchJWTBundles", true),
        ("ValidateJWTSVID", false),
        ("FetchWITSVID", true),
        ("FetchWITBundles", true),
    ];
    assert_eq!(methods, standard);
    let fields: Vec<String> = file
        .message_type
        .iter()
        .map(|message| {
            let fields = message.field.iter().map(|f| format!("{}={}", f.name(), f.number()));
            format!("{}: {}", message.name(), fields.collect::<Vec<_>>().join(" "))
        })
        .collect();
    let standard = [
        "X509SVIDRequest: ",
        "X509SVIDResponse: svids=1 crl=2 federated_bundles=3",
        "X509SVID: spiffe_id=1 x509_svid=2 x509_svid_key=3 bundle=4 hint=5",
        "X509BundlesRequest: ",
        "X509BundlesResponse: crl=1 bundles=2",
        "JWTSVIDRequest: audience=1 spiffe_id=2",
        "JWTSVIDResponse: svids=1",
        "JWTSVID: spiffe_id=1 svid=2 hint=3",
        "JWTBundlesRequest: ",
        "JWTBundlesResponse: bundles=1",
        "ValidateJWTSVIDRequest: audience=1 svid=2",
        "ValidateJWTSVIDResponse: spiffe_id=1 claims=2",
        "WITSVIDRequest: spiffe_id=1",
        "WITSVIDResponse: svids=1",
        "WITSVID: spiffe_id=1 wit_svid=2 wit_svid_key=3 hint=4",
        "WITBundlesRequest: ",
        "WITBundlesResponse: bundles=1",
    ];
    assert_eq!(fields, standard);
}

#[tokio::test]
async fn wa_04_every_message_is_everything() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &["other.test"]));
    let mut stream = svids(&served).await;
    assert_eq!(ids(&next(&mut stream).await.unwrap()), [WEB]);
    served.publish(&holding(&[API, WEB], &[], &["other.test", "third.test"]));
    let both = next(&mut stream).await.unwrap();
    assert_eq!(ids(&both), [API, WEB], "the one that it had too");
    assert_eq!(both.federated_bundles.len(), 2);
    served.publish(&holding(&[API], &[], &[]));
    let one = next(&mut stream).await.unwrap();
    assert_eq!((ids(&one), one.federated_bundles.len()), (vec![API], 0), "what it has no more is not there");
}

#[tokio::test]
async fn wa_05_only_a_change_brings_a_message() {
    let served = serve().await;
    let update = holding(&[WEB], &[], &[]);
    served.publish(&update);
    let mut stream = svids(&served).await;
    next(&mut stream).await.unwrap();
    served.publish(&update);
    // The same again, as another value.
    served.publish(&Arc::new(WorkloadUpdate::clone(&update)));
    silent(&mut stream).await;
    served.publish(&holding(&[WEB], &[], &[]));
    next(&mut stream).await.unwrap(); // renewed
}

#[tokio::test]
async fn wa_06_the_first_message_comes_at_once() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &[]));
    for _ in 0..3 {
        // Nothing has changed since, and each stream is told all the same.
        next(&mut svids(&served).await).await.unwrap();
        next(&mut bundles(&served).await).await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_state() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &["0"], &[]));
    let mut stream = svids(&served).await;
    next(&mut stream).await.unwrap();
    for round in 1..=500 {
        served.publish(&holding(&[WEB], &[&round.to_string()], &[]));
    }
    let mut messages = 0;
    loop {
        messages += 1;
        if next(&mut stream).await.unwrap().svids[0].hint == "500" {
            break;
        }
    }
    // All were published before anything was read; what the transport had taken by then may come too.
    assert!(messages < 500, "{messages} messages");
}

/// Which order that is, the engine says, and it is by SPIFFE ID: here nothing is sorted.
#[tokio::test]
async fn every_identity_is_told_in_the_order_of_the_update() {
    let served = serve().await;
    let mut update = WorkloadUpdate::clone(&holding(&[API, "spiffe://example.org/db", WEB], &[], &[]));
    update.identities.reverse();
    served.publish(&Arc::new(update));
    let response = next(&mut svids(&served).await).await.unwrap();
    assert_eq!(ids(&response), [WEB, "spiffe://example.org/db", API]);
}

#[tokio::test]
async fn wa_13_every_field_of_an_svid_is_set() {
    let served = serve().await;
    let update = holding(&[API, WEB], &["internal"], &[]);
    served.publish(&update);
    for (svid, held) in next(&mut svids(&served).await).await.unwrap().svids.iter().zip(&update.identities) {
        assert_eq!(svid.spiffe_id, held.svid.spiffe_id.to_string());
        assert_eq!(svid.x509_svid, held.svid.chain[0].as_ref());
        assert_eq!(svid.x509_svid_key, held.svid.key.expose_pkcs8());
        assert_eq!(svid.bundle, roots(&update));
    }
}

#[tokio::test]
async fn wa_14_a_hint_stands_once_in_a_response() {
    let served = serve().await;
    served.publish(&holding(
        &[API, "spiffe://example.org/db", WEB],
        &["internal", "internal", "external"],
        &[],
    ));
    let response = next(&mut svids(&served).await).await.unwrap();
    let hints: Vec<_> = response.svids.iter().map(|svid| svid.hint.as_str()).collect();
    assert_eq!(hints, ["internal", "", "external"], "the first keeps it, and nobody loses an identity");
}

#[tokio::test]
async fn wa_16_without_an_identity_permission_is_denied() {
    let served = serve().await;
    served.publish(&nothing());
    let refused =
        first(served.stream::<_, X509svidResponse>("FetchX509SVID", X509svidRequest {}).await).await;
    assert_eq!(refused.unwrap_err(), Code::PermissionDenied);
    // On an open stream too, when the last identity is taken away.
    served.publish(&holding(&[WEB], &[], &[]));
    let mut stream = svids(&served).await;
    next(&mut stream).await.unwrap();
    served.publish(&nothing());
    assert_eq!(next(&mut stream).await.unwrap_err(), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_18_the_leaf_comes_first() {
    let served = serve().await;
    let mut update = WorkloadUpdate::clone(&holding(&[WEB], &[], &[]));
    let intermediate = holding(&[API], &[], &[]).identities[0].svid.chain[0].clone();
    let svid = Arc::get_mut(&mut update.identities[0].svid).unwrap();
    svid.chain.push(intermediate);
    let chain = svid.chain.clone();
    served.publish(&Arc::new(update));
    let response = next(&mut svids(&served).await).await.unwrap();
    assert_eq!(response.svids[0].x509_svid, [chain[0].as_ref(), chain[1].as_ref()].concat());
}

#[tokio::test]
async fn wa_19_the_key_is_pkcs8_and_certificates_are_der() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &[]));
    let response = next(&mut svids(&served).await).await.unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(response.svids[0].x509_svid_key.clone()));
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    for der in [&response.svids[0].x509_svid, &response.svids[0].bundle] {
        assert_eq!(der[0], 0x30, "a SEQUENCE, and no text");
    }
}

#[tokio::test]
async fn wa_20_bundles_hold_our_own_domain_and_the_others() {
    let served = serve().await;
    let update = holding(&[WEB], &[], &["other.test"]);
    served.publish(&update);
    let response = next(&mut bundles(&served).await).await.unwrap();
    let keys: Vec<_> = response.bundles.keys().map(String::as_str).collect();
    assert_eq!(keys, ["spiffe://example.org", "spiffe://other.test"]);
    assert_eq!(response.bundles["spiffe://example.org"], roots(&update));
    let response = next(&mut svids(&served).await).await.unwrap();
    let keys: Vec<_> = response.federated_bundles.keys().map(String::as_str).collect();
    assert_eq!(keys, ["spiffe://other.test"], "and there the others alone");
}

#[tokio::test]
async fn the_crls_of_the_bundles_come_with_them_and_a_new_one_is_a_change() {
    let served = serve().await;
    let revoking = |crls: &[&[u8]]| {
        let mut update = WorkloadUpdate::clone(&holding(&[WEB], &[], &["other.test"]));
        let all = update.reach.all.as_ref().unwrap();
        let other = &all.bundles[1];
        let ders = crls.iter().map(|der| der.to_vec().into()).collect();
        let bundle = TrustBundle::new(other.trust_domain.clone(), other.roots.clone(), Revision(1));
        let bundles = vec![all.bundles[0].clone(), Arc::new(bundle.with_crls(ders))];
        let (admitted, revision, memo) = (Admitted::Everybody, Revision(1), Memo::default());
        let all = Some(Arc::new(Trust { bundles, admitted, revision, memo }));
        update.reach = Arc::new(Reach { all, ..Reach::default() });
        Arc::new(update)
    };
    served.publish(&revoking(&[]));
    let (mut svids, mut bundles) = (svids(&served).await, bundles(&served).await);
    assert!(next(&mut svids).await.unwrap().crl.is_empty());
    assert!(next(&mut bundles).await.unwrap().crl.is_empty());
    for crls in [[[1_u8; 4].as_slice(), &[2; 5]].as_slice(), &[&[3; 6]]] {
        served.publish(&revoking(crls));
        assert_eq!(next(&mut svids).await.unwrap().crl, crls);
        assert_eq!(next(&mut bundles).await.unwrap().crl, crls);
    }
}

#[tokio::test]
async fn wa_21_without_an_entry_there_are_no_bundles() {
    let served = serve().await;
    served.publish(&nothing());
    let refused = served.stream::<_, X509BundlesResponse>("FetchX509Bundles", X509BundlesRequest {}).await;
    assert_eq!(first(refused).await.unwrap_err(), Code::PermissionDenied);
    served.publish(&entitled());
    next(&mut bundles(&served).await).await.unwrap(); // an entry is enough
}

#[tokio::test]
async fn a_session_that_ends_ends_its_streams() {
    let served = serve().await;
    served.publish(&holding(&[WEB], &[], &[]));
    let (mut one, mut other) = (svids(&served).await, bundles(&served).await);
    next(&mut one).await.unwrap();
    next(&mut other).await.unwrap();
    served.sessions.publish(SessionState::Ended(EndReason::ProcessExecuted));
    assert_eq!(next(&mut one).await.unwrap_err(), Code::PermissionDenied);
    assert_eq!(next(&mut other).await.unwrap_err(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_open_stream_is_listed_with_what_it_was_told() {
    let served = serve().await;
    let mut waiting = svids(&served).await;
    let listed = |served: &Served| {
        let feeds = served.feeds.snapshot();
        assert_eq!(feeds.len(), 1);
        let names = feeds[0].names.iter().map(|told| (told.name.clone(), told.version));
        ((feeds[0].protocol, feeds[0].method, feeds[0].pid), names.collect::<Vec<_>>())
    };
    assert_eq!(listed(&served), (("workload_api", "x509_svid", Some(42)), Vec::new()));
    let first = holding(&[API, WEB], &[], &[]);
    let rows = |update: &WorkloadUpdate| {
        let svids = update.identities.iter().map(|one| (one.svid.spiffe_id.to_string(), one.svid.version));
        let bundle = ("spiffe://example.org".to_owned(), update.bundle.as_ref().unwrap().version);
        svids.chain([bundle]).collect::<Vec<_>>()
    };
    served.publish(&first);
    next(&mut waiting).await.unwrap();
    assert_eq!(listed(&served).1, rows(&first));
    let second = holding(&[WEB], &[], &[]);
    served.publish(&second);
    next(&mut waiting).await.unwrap();
    assert_eq!(listed(&served).1, rows(&second));
    // What it came in is not kept when it has been replaced by the like: it would keep keys alive.
    let alike = Arc::new(WorkloadUpdate::clone(&second));
    served.publish(&alike);
    drop((first, alike));
    silent(&mut waiting).await;
    assert_eq!(Arc::strong_count(&second), 1, "ours");
    served.sessions.publish(SessionState::Ended(EndReason::ProcessExited));
    next(&mut waiting).await.unwrap_err();
    assert!(served.feeds.snapshot().is_empty());
}
