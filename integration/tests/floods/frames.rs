//! Floods below gRPC, and connections that are opened and not used.

use integration::raw::{self, CONTINUATION, END_HEADERS, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS};
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use super::hand;
use super::world::{MIB, STREAM, World, X509};

const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;
/// An ordinary window.
const WINDOW: u32 = 65_535;

/// Whether the server said why it closed the connection: a GOAWAY with that code.
fn calmed(all: &[u8]) -> bool {
    let mut rest = all;
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, behind)) = after.split_at_checked(length) else { return false };
        if head[3] == GOAWAY && payload[7] == ENHANCE_YOUR_CALM {
            return true;
        }
        rest = behind;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_their_connections_and_nobody_elses() {
    let world = World::start("").await;
    for path in [STREAM, X509] {
        for _ in 0..10 {
            let stream = hand::greeted(&world.socket(), WINDOW).await;
            let (from, mut to) = stream.into_split();
            let heard = tokio::spawn(async move {
                let mut all = Vec::new();
                let _ = tokio::io::AsyncReadExt::read_to_end(&mut { from }, &mut all).await;
                all
            });
            let cancel = 8_u32.to_be_bytes();
            let sent = hand::pour(&mut to, |n| {
                let number = 2 * n + 1;
                let pair = [hand::empty(path, number), raw::frame(RST_STREAM, 0, number, &cancel)].concat();
                (n < 20_000).then_some(pair)
            });
            let sent = sent.await;
            drop(to);
            let all = heard.await.unwrap();
            assert!(sent < 20_000 && calmed(&all), "{path}: {sent} streams were taken");
        }
        world.others_are_served().await;
    }
    let log = world.server.log();
    assert!(!log.contains("reset"), "a line for each connection would fill the log: {log}");
    // A window, at the most, of each connection; they end one after the other.
    world.stands(10 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end_are_given_up() {
    let world = World::start("").await;
    let block = hand::block(STREAM);
    let large = vec![0; raw::MAX_FRAME];
    let padding = raw::block(&[("x", "y".repeat(1000))]);
    // Empty ones, ones that say nothing sensible, and ones with more and more fields.
    for piece in [&[][..], &large, &padding] {
        let stream = hand::greeted(&world.socket(), WINDOW).await;
        let (from, mut to) = stream.into_split();
        let heard = tokio::spawn(hand::drain(from));
        let first = raw::frame(HEADERS, 0, 1, &block);
        to.write_all(&first).await.unwrap();
        let piece = raw::frame(CONTINUATION, 0, 1, piece);
        let sent = hand::pour(&mut to, |n| (n < 100_000).then(|| piece.clone())).await;
        assert!(sent < 100_000, "it took them all");
        drop(to);
        heard.await.unwrap();
        world.others_are_served().await;
    }
    world.stands(4 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_pings_without_end_hold_up_nobody() {
    const FRAMES: u32 = 100_000;
    let world = World::start("").await;
    let setting = raw::frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
    let ping = raw::frame(PING, 0, 0, &[7; 8]);
    for frame in [setting, ping] {
        // One that reads what comes back, and may go on to the end…
        let (from, mut to) = hand::greeted(&world.socket(), WINDOW).await.into_split();
        let heard = AbortOnDropHandle::new(tokio::spawn(hand::drain(from)));
        to.write_all(&hand::empty("/none", 1)).await.unwrap();
        let reads = frame.clone();
        let flood = tokio::spawn(async move {
            let sent = hand::pour(&mut to, |n| (n < FRAMES).then(|| reads.clone())).await;
            drop(to);
            sent
        });
        // …and eight that do not read, whom the server stops reading, or closes.
        let mut deaf = Vec::new();
        for _ in 0..8 {
            let (from, mut to) = hand::greeted(&world.socket(), WINDOW).await.into_split();
            let frame = frame.clone();
            deaf.push(AbortOnDropHandle::new(tokio::spawn(async move {
                hand::pour(&mut to, |_| Some(frame.clone())).await;
                drop(from);
            })));
        }
        let mut served = 0;
        while !flood.is_finished() || served < 3 {
            world.others_are_served().await;
            served += 1;
        }
        assert!(flood.await.unwrap() > 0);
        drop((deaf, heard));
    }
    world.stands(18 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_are_closed_and_keep_nobody_out() {
    let world =
        World::start("limits: {first_request: 2s, keepalive_interval: 2s, keepalive_timeout: 2s}\n").await;
    let half = raw::frame(HEADERS, END_HEADERS, 1, &hand::block(STREAM));
    let whole = hand::head(STREAM, 1);
    let hello = [PREFACE, &raw::frame(SETTINGS, 0, 0, &[])].concat();
    let shapes: [(&str, Vec<u8>); 7] = [
        ("nothing", Vec::new()),
        ("half a preface", PREFACE[..10].to_vec()),
        ("a preface", PREFACE.to_vec()),
        ("a greeting", hello.clone()),
        ("half a frame", [&hello[..], &half[..half.len() / 2]].concat()),
        ("half a frame's head", [&hello[..], &half[..5]].concat()),
        // It has asked for something, and then gives no sign of life.
        ("a request, and half of another frame", [&hello[..], &whole, &half[..20]].concat()),
    ];
    let mut open = Vec::new();
    for (what, bytes) in &shapes {
        for _ in 0..50 {
            let mut stream = integration::sds::dialled(&world.socket()).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            open.push((what, stream));
        }
    }
    world.others_are_served().await;
    for (what, stream) in open {
        hand::until_closed(stream).await;
        let _ = what;
    }
    world.stands(16 * MIB).await;
}
