//! Requests whose end does not come cost a bounded amount of memory, for a bounded time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use sds_server::sds::{Limits, SdsService, Shared};
use spiffe_bridge::node::{Caller, Session, Sessions};
use tower::ServiceExt;

fn session(uid: u32) -> (Sessions, Session) {
    Session::channel(Caller::local(1, 1, uid, 1))
}

/// Opens a stream of `session` that sends the beginning of a message of `length` bytes and no more; its end, if any
/// comes within a minute: the gRPC status.
async fn begin(service: &SdsService, session: &Session, length: u32) -> Option<String> {
    let head = [&[0][..], &length.to_be_bytes(), b"the rest never comes"].concat();
    let first = futures::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(head)))]);
    let body = StreamBody::new(Box::pin(first.chain(futures::stream::pending())));
    let request = http::Request::post("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets")
        .header("content-type", "application/grpc")
        .extension(session.clone())
        .body(body)
        .unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    let body = tokio::time::timeout(Duration::from_secs(60), response.into_body().collect()).await.ok()?;
    Some(body.unwrap().trailers()?["grpc-status"].to_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_finished_ends_its_stream() {
    let service = SdsService::new(Shared::default());
    let (_sessions, session) = session(1);
    assert_eq!(begin(&service, &session, 100).await.as_deref(), Some("4"), "DEADLINE_EXCEEDED");
}

#[tokio::test(start_paused = true)]
async fn unfinished_messages_of_one_user_leave_room_for_others() {
    let limits = Limits { unfinished_bytes: 100_000, ..Limits::default() };
    let service = SdsService::new(Shared { limits, ..Shared::default() });
    let ((_a, one), (_b, other)) = (session(1), session(2));
    let waits = tokio::spawn({
        let (service, one) = (service.clone(), one.clone());
        async move { begin(&service, &one, 40_000).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(begin(&service, &one, 40_000).await.as_deref(), Some("8"), "RESOURCE_EXHAUSTED");
    assert_eq!(begin(&service, &other, 40_000).await.as_deref(), Some("4"), "the other user has room");
    assert_eq!(waits.await.unwrap().as_deref(), Some("4"));
    assert_eq!(begin(&service, &one, 40_000).await.as_deref(), Some("4"), "and it is given back");
}
