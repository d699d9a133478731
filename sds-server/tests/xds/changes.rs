//! What becomes of a stream when what it asks for comes and goes.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use sds_server::sds::request::Names;
use sds_server::sds::{Limits, Protocol};
use spiffe_bridge::node::{EndReason, SessionState};
use tonic::Code;

use super::fixture::{
    API, WEB, change, engine, holding, names, nothing, now, say, secret, serve, silent, soon,
};
use super::{delta, open_delta, open_sotw, sotw};

#[tokio::test]
async fn xd_19_removal_and_non_existence_are_removed_resources() {
    let served = serve(Limits::default()).await;
    // Before the caller is attested nothing is said, not even this.
    let (_sender, mut stream) = open_delta(&served, delta(&[WEB, "no-such-name"])).await;
    silent(&mut stream).await;
    served.publish(&holding(&[WEB], 1));
    let removed = soon(&mut stream).await.unwrap();
    assert_eq!(removed.removed_resources, ["no-such-name"]);
    assert_eq!(soon(&mut stream).await.unwrap().resources[0].name, WEB);
    served.publish(&holding(&[API], 2));
    let removed = soon(&mut stream).await.unwrap();
    assert_eq!((removed.removed_resources, removed.resources.len()), (vec![WEB.to_owned()], 0));
    served.publish(&nothing());
    silent(&mut stream).await;
}

#[tokio::test]
async fn xd_20_a_requested_name_is_pushed_when_it_comes_to_exist() {
    let served = serve(Limits::default()).await;
    served.publish(&nothing());
    let (_s1, mut sotw_stream) = open_sotw(&served, sotw(&[WEB])).await;
    let (_s2, mut delta_stream) = open_delta(&served, delta(&[WEB])).await;
    silent(&mut sotw_stream).await;
    assert_eq!(soon(&mut delta_stream).await.unwrap().removed_resources, [WEB]);
    served.publish(&holding(&[WEB], 1));
    assert_eq!(secret(&soon(&mut sotw_stream).await.unwrap().resources[0]).name, WEB);
    assert_eq!(soon(&mut delta_stream).await.unwrap().resources[0].name, WEB);
}

#[tokio::test]
async fn xd_21_sotw_says_nothing_of_a_withdrawn_identity_and_an_ended_session_is_denied() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let (_sender, mut stream) = open_sotw(&served, sotw(&[WEB])).await;
    soon(&mut stream).await.unwrap();
    served.publish(&nothing());
    silent(&mut stream).await;
    served.sessions.publish(SessionState::Ended(EndReason::ProcessExecuted));
    let status = soon(&mut stream).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("another program"), "{status}");
}

#[tokio::test]
async fn a_drained_session_is_unavailable() {
    let served = serve(Limits::default()).await;
    let (_sender, mut stream) = open_sotw(&served, sotw(&[WEB])).await;
    served.sessions.publish(SessionState::Ended(EndReason::Draining));
    assert_eq!(soon(&mut stream).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn xd_22_a_first_sotw_request_is_answered_whatever_version_it_holds() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let (_s, mut stream) = open_sotw(&served, sotw(&[WEB, "ROOTCA"])).await;
    let version_info = soon(&mut stream).await.unwrap().version_info;
    let (_s, mut stream) =
        open_sotw(&served, DiscoveryRequest { version_info, ..sotw(&[WEB, "ROOTCA"]) }).await;
    let mut sent = Vec::new();
    for _ in 0..2 {
        sent.push(secret(&soon(&mut stream).await.unwrap().resources[0]).name);
    }
    sent.sort();
    assert_eq!(sent, ["ROOTCA", WEB]);
}

#[test]
fn xd_23_initial_versions_are_honoured_only_when_they_are_ours() {
    let held = holding(&[API, WEB], 1);
    let mut first = engine(Protocol::Delta);
    first.request(change(&[API, WEB], &[]), now()).unwrap();
    let super::fixture::Said::Secret { version, .. } = &say(&mut first, &held)[0] else { panic!() };

    let reconnect = |claims: &[(&str, &str)]| {
        let mut stream = engine(Protocol::Delta);
        let mut request = change(&[API, WEB, "gone"], &[]);
        let Names::Change { held, .. } = &mut request.names else { panic!() };
        *held = claims.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        stream.request(request, now()).unwrap();
        stream
    };
    let mut stream = reconnect(&[(API, version), (WEB, "1-00"), ("gone", "1-00")]);
    let said = say(&mut stream, &held);
    assert_eq!((said.len(), said[0].gone()[0].as_str(), said[1].name()), (2, "gone", WEB));
    assert_eq!(stream.held(), 1);
    assert_eq!(names(&say(&mut stream, &holding(&[API, WEB], 2))), [API, WEB], "held, and followed");
    // The right version under another name proves nothing.
    assert_eq!(say(&mut reconnect(&[(WEB, version)]), &held).len(), 3);
}

#[tokio::test]
async fn xd_24_the_first_answer_is_prompt() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB], 1));
    let begin = Instant::now();
    let (_s, mut stream) = open_sotw(&served, sotw(&["default"])).await;
    soon(&mut stream).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
