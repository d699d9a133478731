//! A peer that writes frames by hand, as many as go.

use std::path::Path;
use std::time::Duration;

use integration::raw::{self, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS};
use integration::sds;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;
/// SETTINGS_INITIAL_WINDOW_SIZE. RFC 9113 §6.5.2.
const INITIAL_WINDOW: u16 = 4;

/// A connection whose peer has said who it is, and how much it will read of each stream.
pub(crate) async fn greeted(socket: &Path, window: u32) -> UnixStream {
    let mut stream = sds::dialled(socket).await.unwrap();
    let setting = [&INITIAL_WINDOW.to_be_bytes()[..], &window.to_be_bytes()].concat();
    stream.write_all(&[PREFACE, &raw::frame(SETTINGS, 0, 0, &setting)].concat()).await.unwrap();
    stream
}

/// The head of a gRPC request.
pub(crate) fn head(path: &str, stream: u32) -> Vec<u8> {
    raw::frame(HEADERS, END_HEADERS, stream, &block(path))
}

pub(crate) fn block(path: &str) -> Vec<u8> {
    let mut fields = raw::grpc(path);
    fields.push(("workload.spiffe.io", "true".into()));
    raw::block(&fields)
}

/// A whole request without a message.
pub(crate) fn empty(path: &str, stream: u32) -> Vec<u8> {
    raw::frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(path))
}

/// Writes what `next` gives until it has no more, or the server takes no more; returns how many were written.
pub(crate) async fn pour(to: &mut OwnedWriteHalf, mut next: impl FnMut(u32) -> Option<Vec<u8>>) -> u32 {
    let mut count = 0;
    while let Some(bytes) = next(count) {
        if to.write_all(&bytes).await.is_err() {
            break; // it has closed the connection
        }
        count += 1;
    }
    count
}

/// Reads to the end, and says how many bytes came.
pub(crate) async fn drain(mut from: OwnedReadHalf) -> usize {
    let (mut all, mut buffer) = (0, vec![0; 64 << 10]);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        all += count;
    }
    all
}

/// The same, and keeps it.
pub(crate) async fn all(mut from: OwnedReadHalf) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = from.read_to_end(&mut all).await; // an error is an end too
    all
}

/// Whether the server said why it closed the connection: a GOAWAY with that code.
pub(crate) fn calmed(all: &[u8]) -> bool {
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

/// All that comes until the server closes the connection, which it must.
pub(crate) async fn until_closed(stream: UnixStream) -> Vec<u8> {
    let (from, _to) = stream.into_split();
    tokio::time::timeout(Duration::from_secs(30), all(from)).await.expect("it stays open")
}
