//! HTTP/2 as the endpoint speaks it, and its bounds.

use std::time::Duration;

use bytes::Bytes;
use sds_server::endpoint::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::{Fixture, serve, soon};

/// The library itself, which shows what hyper hides.
async fn connect_h2(fixture: &Fixture) -> (h2::client::SendRequest<Bytes>, JoinHandle<()>) {
    let stream = UnixStream::connect(&fixture.path).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    (client, tokio::spawn(async move { drop(connection.await) }))
}

fn request(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://localhost{path}")).body(()).unwrap()
}

#[tokio::test]
async fn a_request_that_is_reset_is_given_up() {
    let fixture = serve(Config::default());
    let (client, _connection) = connect_h2(&fixture).await;
    let mut client = client.ready().await.unwrap();
    let (answer, mut body) = client.send_request(request("/slow"), false).unwrap();
    soon(fixture.begun.notified()).await;
    body.send_reset(h2::Reason::CANCEL);
    soon(fixture.dropped.notified()).await; // the service's future is gone: nobody works for nobody
    assert!(answer.await.is_err());
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways_as_the_windows_allow() {
    let fixture = serve(Config::default());
    let (client, _connection) = connect_h2(&fixture).await;
    let mut client = client.ready().await.unwrap();
    let (answer, mut body) = client.send_request(request("/echo"), false).unwrap();
    let sent = Bytes::from(vec![7; 1 << 20]); // sixteen windows
    let send = async {
        for chunk in sent.chunks(10_000) {
            body.reserve_capacity(chunk.len());
            while body.capacity() < chunk.len() {
                std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            }
            body.send_data(Bytes::copy_from_slice(chunk), false).unwrap();
        }
        let end = http::HeaderMap::from_iter([("end".parse().unwrap(), "here".parse().unwrap())]);
        body.send_trailers(end).unwrap();
    };
    let receive = async {
        let mut body = answer.await.unwrap().into_body();
        let mut received = 0;
        while let Some(data) = body.data().await {
            let count = data.unwrap().len();
            body.flow_control().release_capacity(count).unwrap();
            received += count;
        }
        (received, body.trailers().await.unwrap())
    };
    let ((), (received, trailers)) = soon(async { tokio::join!(send, receive) }).await;
    assert_eq!((received, trailers.unwrap()["end"].as_bytes()), (sent.len(), b"here".as_slice()));
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused_and_the_connection_lives() {
    let fixture = serve(Config { header_list_bytes: 1024, ..Config::default() });
    let (client, _connection) = connect_h2(&fixture).await;
    let mut client = client.ready().await.unwrap();
    let mut large = request("/fast");
    large.headers_mut().insert("large", "x".repeat(2000).parse().unwrap());
    let status = |answer: Result<http::Response<h2::RecvStream>, h2::Error>| answer.map(|a| a.status());
    let refused = status(client.send_request(large, true).unwrap().0.await);
    assert!(refused.as_ref().map_or(true, |status| status.as_u16() == 431), "{refused:?}");
    assert_eq!(status(client.send_request(request("/fast"), true).unwrap().0.await).unwrap(), 200);
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let fixture = serve(Config::default());
    let (client, connection) = connect_h2(&fixture).await;
    let mut client = client.ready().await.unwrap();
    for _ in 0..200 {
        let (_, mut body) = client.send_request(request("/slow"), false).unwrap();
        body.send_reset(h2::Reason::CANCEL);
    }
    soon(connection).await.unwrap();
}

/// Length, type, flags, stream. RFC 9113 §4.1.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// HEADERS with END_STREAM and END_HEADERS, `GET /` by HPACK's static table, authority left out.
const GET: [u8; 12] = [0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x87];

/// A peer that speaks by hand: it has asked for something, and reads the server's PINGs.
async fn by_hand(fixture: &Fixture) -> UnixStream {
    let mut stream = UnixStream::connect(&fixture.path).await.unwrap();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &SETTINGS, &GET].concat();
    stream.write_all(&hello).await.unwrap();
    stream
}

async fn ping(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    loop {
        let frame = whole_frame(stream).await?;
        if (frame[3], frame[4]) == (PING, 0) {
            return Ok(frame);
        }
    }
}

async fn whole_frame(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 9];
    stream.read_exact(&mut frame).await?;
    let length = usize::from(frame[1]) * 256 + usize::from(frame[2]);
    frame.resize(9 + length, 0);
    stream.read_exact(&mut frame[9..]).await?;
    Ok(frame)
}

/// Type and flags.
async fn next_frame(stream: &mut UnixStream) -> std::io::Result<[u8; 2]> {
    whole_frame(stream).await.map(|frame| [frame[3], frame[4]])
}

#[tokio::test]
async fn a_peer_that_gives_a_sign_of_life_is_kept_and_a_silent_one_is_not() {
    let brief = Duration::from_millis(100);
    let fixture = serve(Config { keepalive_interval: brief, keepalive_timeout: brief, ..Config::default() });
    let mut stream = by_hand(&fixture).await;
    for _ in 0..3 {
        let mut answer = soon(ping(&mut stream)).await.unwrap();
        answer[4] = 1; // ACK
        stream.write_all(&answer).await.unwrap();
    }
    soon(ping(&mut stream)).await.unwrap(); // asked once more; not answered
    assert!(soon(ping(&mut stream)).await.is_err(), "the connection is closed");
    soon(async {
        while fixture.limits.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// HEADERS without END_STREAM, `POST /`; then an empty message as its body, which ends it.
const POST: [u8; 3] = [0x83, 0x84, 0x86];

fn head_of(stream: u32) -> Vec<u8> {
    [&[0, 0, 3, 1, 4], stream.to_be_bytes().as_slice(), &POST].concat()
}

fn body_of(stream: u32) -> Vec<u8> {
    [&[0, 0, 5, 0, 1], stream.to_be_bytes().as_slice(), &[0; 5]].concat()
}

/// The service answers without a look at the body, as one does that refuses the call. The body is on its way then.
#[tokio::test]
async fn hundreds_of_calls_that_are_refused_before_their_bodies_come_do_not_end_the_connection() {
    const CALLS: u32 = 1000;
    let fixture = serve(Config::default());
    let mut stream = UnixStream::connect(&fixture.path).await.unwrap();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &SETTINGS].concat();
    stream.write_all(&hello).await.unwrap();
    let streams = || (0..CALLS).map(|call| 2 * call + 1);
    stream.write_all(&streams().flat_map(head_of).collect::<Vec<_>>()).await.unwrap();
    let mut ended = 0;
    while ended < CALLS {
        let [kind, flags] = soon(next_frame(&mut stream)).await.unwrap();
        assert_ne!(kind, GOAWAY);
        ended += u32::from(kind <= 1 && flags & 1 == 1);
    }
    stream.write_all(&streams().flat_map(body_of).collect::<Vec<_>>()).await.unwrap();
    stream.write_all(&[[0, 0, 8, PING, 0, 0, 0, 0, 0].as_slice(), b"sequence"].concat()).await.unwrap();
    loop {
        let [kind, flags] = soon(next_frame(&mut stream)).await.unwrap();
        assert_ne!(kind, GOAWAY, "the connection is closed for what it could not know");
        if (kind, flags) == (PING, 1) {
            break;
        }
    }
}
