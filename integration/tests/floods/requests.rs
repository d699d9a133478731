//! Requests that are too large, and requests without a pause.

use std::future::poll_fn;
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use h2::client::SendRequest;
use integration::raw;
use prost::Message;
use sds_server::proto::workload::JwtsvidRequest;
use tokio::io::AsyncWriteExt;

use super::hand;
use super::world::{DELTA, FETCH, MIB, STREAM, World, X509};

const RESOURCE_EXHAUSTED: u32 = 8;

/// How a call ends that sends `message`, as the windows allow: its status.
async fn refused(world: &World, path: &str, message: bytes::Bytes) -> Option<u32> {
    let mut ready = client(world).await.ready().await.unwrap();
    let (answer, mut send) = ready.send_request(head(path), false).unwrap();
    // What has one request only waits for its end.
    send.send_data(message, ![STREAM, DELTA].contains(&path)).unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    let status = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    if let Some(code) = status(&head.headers) {
        return Some(code);
    }
    assert!(body.data().await.is_none(), "{path}: nothing is said but the status");
    status(&body.trailers().await.unwrap()?)
}

fn names(count: usize, before: &str) -> Vec<String> {
    (0..count).map(|n| format!("{before}{n:05}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_hundred_thousand_names_or_four_mebibytes_is_refused() {
    let world = World::start("").await;
    let sotw = |names| DiscoveryRequest { resource_names: names, ..Default::default() }.encode_to_vec();
    let delta = |names| {
        DeltaDiscoveryRequest { resource_names_subscribe: names, ..Default::default() }.encode_to_vec()
    };
    let (short, long) = (|| names(100_000, "n"), || names(100_000, "spiffe://example.org/some/name/"));
    let jwt = JwtsvidRequest { audience: names(100_000, "a"), spiffe_id: String::new() }.encode_to_vec();
    let large = vec![0; 4 << 20];
    let shapes: [(&str, Vec<u8>); 9] = [
        (STREAM, sotw(short())), // fits in a message, and is read
        (STREAM, sotw(long())),
        (STREAM, large.clone()),
        (DELTA, delta(short())),
        (DELTA, delta(long())),
        (FETCH, sotw(short())),
        (FETCH, large.clone()),
        (X509, large),
        ("/SpiffeWorkloadAPI/FetchJWTSVID", jwt),
    ];
    // Each sixteen times at once.
    for (path, message) in shapes {
        let message = bytes::Bytes::from(raw::message(&message));
        let asked = (0..16).map(|_| refused(&world, path, message.clone()));
        for status in futures::future::join_all(asked).await {
            assert_eq!(status, Some(RESOURCE_EXHAUSTED), "{path}");
        }
    }
    // Sixteen unfinished messages of 1 MiB at the most (sds.message_bytes), of which there are two while one grows, and 1 MiB
    // of window for each. What is read takes up to 20 MiB, and each thread of the server reads one.
    let threads = std::thread::available_parallelism().unwrap().get().min(16) as u64;
    world.stands((32 + 16 + threads * 20) * MIB).await;
}

pub(crate) async fn client(world: &World) -> SendRequest<bytes::Bytes> {
    let stream = integration::sds::dialled(&world.socket()).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(64 << 20); // or answers to many streams come in crumbs
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

pub(crate) fn head(path: &str) -> http::Request<()> {
    let request = http::Request::post(format!("http://localhost{path}")).header("te", "trailers");
    request.header("content-type", "application/grpc").header("workload.spiffe.io", "true").body(()).unwrap()
}

/// Asked once more, it is sent once more: XD-13.
fn again(name: &str) -> bytes::Bytes {
    let names = vec![name.to_owned()];
    let request = DeltaDiscoveryRequest { resource_names_subscribe: names, ..Default::default() };
    raw::message(&request.encode_to_vec()).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_requests_on_one_stream_without_a_pause_are_answered_and_hold_up_nobody() {
    const REQUESTS: usize = 100_000;
    const IN_FRAME: usize = 500; // small frames that wait are counted: see below
    let world = World::start("").await;
    let mut ready = client(&world).await.ready().await.unwrap();
    let (answer, mut send) = ready.send_request(head(DELTA), false).unwrap();
    let start = Instant::now();
    let asking = tokio::spawn(async move {
        for _ in 0..REQUESTS / IN_FRAME {
            write(&mut send, again("ROOTCA").repeat(IN_FRAME).into()).await;
        }
        write(&mut send, again("default")).await;
        send.send_data(bytes::Bytes::new(), true).unwrap();
    });
    let hearing = tokio::spawn(async move {
        let mut body = answer.await.unwrap().into_body();
        let (mut answers, mut rest, mut is_last) = (0, Vec::new(), false);
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            rest.extend_from_slice(&data);
            let messages = raw::messages(&rest);
            let whole: usize = messages.iter().map(|message| message.len() + 5).sum();
            answers += messages.len();
            is_last |= memchr::memmem::find(&rest[..whole], b"PRIVATE KEY").is_some();
            rest.drain(..whole);
        }
        (answers, is_last)
    });
    let mut served = 0;
    while !hearing.is_finished() {
        world.others_are_served().await;
        served += 1;
    }
    asking.await.unwrap();
    let (answers, is_last) = hearing.await.unwrap();
    let rate = REQUESTS as u128 * 1000 / start.elapsed().as_millis();
    println!("{rate} requests a second, {answers} answers; {served} others were served beside");
    assert!(answers > REQUESTS / 2 && is_last, "{answers} answers, the last of them: {is_last}");
    assert!(served > 0);
    // A window, and the answer that waits for room.
    world.stands(MIB).await;
}

/// Writes `data` as the windows allow: as fast as the server takes it.
async fn write(send: &mut h2::SendStream<bytes::Bytes>, mut data: bytes::Bytes) {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let room = poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
        send.send_data(data.split_to(room.min(data.len())), false).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_wait_for_answers_end_their_connection_at_a_bound() {
    const REQUESTS: u32 = 20_000;
    let world = World::start("").await;
    let frame = raw::frame(raw::DATA, 0, 1, &again("ROOTCA"));
    for _ in 0..10 {
        // The first answer finds no room, and what follows waits to be heard.
        let (from, mut to) = hand::greeted(&world.socket(), 0).await.into_split();
        let heard = tokio::spawn(hand::all(from));
        to.write_all(&hand::head(DELTA, 1)).await.unwrap();
        let sent = hand::pour(&mut to, |n| (n < REQUESTS).then(|| frame.clone())).await;
        drop(to);
        println!("{sent} small frames");
        // Two thousand are taken, and what the socket holds is written when it closes.
        assert!((2000..REQUESTS / 4).contains(&sent), "{sent} were taken");
        assert!(hand::calmed(&heard.await.unwrap()), "it says why");
        world.others_are_served().await;
    }
    // One after the other: a window, and two thousand small frames.
    world.stands(MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_calls_of_the_workload_api_on_one_connection_are_answered() {
    const CALLS: usize = 20_000;
    const AT_ONCE: usize = 40; // beyond fifty that are refused before they were sent whole, it is taken for a flood
    let world = World::start("").await;
    let mut client = client(&world).await;
    for round in 0..CALLS / AT_ONCE {
        let mut calls = Vec::new();
        for n in 0..AT_ONCE {
            client = client.ready().await.unwrap();
            // Unary, refused, and streams that are left at once.
            let path = ["/SpiffeWorkloadAPI/ValidateJWTSVID", "/SpiffeWorkloadAPI/Nothing", X509][n % 3];
            let (answer, mut send) = client.send_request(head(path), false).unwrap();
            let _ = send.send_data(raw::message(&[]).into(), true); // it may be answered before
            calls.push(answer);
        }
        for call in calls {
            let answer: http::Response<h2::RecvStream> = call.await.unwrap();
            assert_eq!(answer.status(), 200);
            if answer.headers().get("grpc-status").is_none() {
                assert!(answer.into_body().data().await.is_some()); // and leaves the stream
            }
        }
        if round % 25 == 0 {
            world.others_are_served().await;
        }
    }
    // Forty streams, and a window.
    world.stands(MIB).await;
}
