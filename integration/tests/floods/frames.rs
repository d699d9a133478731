//! Floods below gRPC, and connections that are opened and not used.

use std::time::Duration;

use integration::raw::{self, CONTINUATION, END_HEADERS, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS};
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use super::hand;
use super::world::{MIB, STREAM, World, X509};

/// An ordinary window.
const WINDOW: u32 = 65_535;

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_their_connections_and_nobody_elses() {
    let world = World::start("").await;
    for path in [STREAM, X509] {
        for _ in 0..10 {
            let stream = hand::greeted(&world.socket(), WINDOW).await;
            let (from, mut to) = stream.into_split();
            let heard = tokio::spawn(hand::all(from));
            let cancel = 8_u32.to_be_bytes();
            let sent = hand::pour(&mut to, |n| {
                let number = 2 * n + 1;
                let pair = [hand::empty(path, number), raw::frame(RST_STREAM, 0, number, &cancel)].concat();
                (n < 20_000).then_some(pair)
            });
            let sent = sent.await;
            drop(to);
            let all = heard.await.unwrap();
            assert!(sent < 20_000 && hand::calmed(&all), "{path}: {sent} streams were taken");
        }
        world.others_are_served().await;
    }
    let log = world.server.log();
    assert!(!log.contains("reset"), "a line for each connection would fill the log: {log}");
    // A window, at the most, of a connection; they end one after the other.
    world.stands(MIB).await;
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
    world.stands(MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_pings_without_end_are_answered_one_by_one_and_who_reads_no_answer_is_closed() {
    const FRAMES: u32 = 100_000;
    let world = World::start("limits: {keepalive_interval: 2s, keepalive_timeout: 2s}\n").await;
    let setting = raw::frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
    let ping = raw::frame(PING, 0, 0, &[7; 8]);
    // And their answers: an ACK is empty, a PING's has what came. RFC 9113 §6.5, §6.7.
    for (frame, answer) in [(setting, 9), (ping, 9 + 8)] {
        let flood = async || {
            let (from, mut to) = hand::greeted(&world.socket(), WINDOW).await.into_split();
            to.write_all(&hand::empty("/none", 1)).await.unwrap();
            let frame = frame.clone();
            let poured = async move { hand::pour(&mut to, |n| (n < FRAMES).then(|| frame.clone())).await };
            (from, AbortOnDropHandle::new(tokio::spawn(poured)))
        };
        // One that reads what comes back goes on to the end…
        let (from, reads) = flood().await;
        let heard = AbortOnDropHandle::new(tokio::spawn(hand::drain(from)));
        // …and eight that do not are not heard until they do.
        let deaf = futures::future::join_all((0..8).map(|_| flood())).await;
        while !reads.is_finished() {
            world.others_are_served().await;
        }
        assert_eq!(reads.await.unwrap(), FRAMES);
        assert!(heard.await.unwrap() >= FRAMES as usize * answer, "each has its answer");
        // Then they give no sign of life, and are closed: whoever writes ends.
        for (from, poured) in deaf {
            let sent = tokio::time::timeout(Duration::from_secs(30), poured).await.expect("it stays open");
            let sent = sent.unwrap();
            println!("{sent} frames of a peer that reads no answer");
            assert!(sent < FRAMES / 2, "{sent} frames were taken");
            drop(from);
        }
        world.others_are_served().await;
    }
    // Eight at one time: what is held back of the answers, and the library's buffers.
    world.stands(MIB).await;
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
    // A connection that has said nothing yet: 16 KiB, 24 here.
    world.stands(7 * 50 * 24 * 1024).await;
}
