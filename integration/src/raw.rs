//! HTTP/2 by hand: requests that no library would write, whose answers the library reads.
//!
//! ```text
//! Peer::ask(parts) ─► h2's client, on a stream that it believes to be a plain request
//!                         │ its HEADERS are thrown away, and `parts` stand in their place
//!                       socket ─► server ─► h2's client ─► Answer
//! ```

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use crate::http;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// RFC 9113 §6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const CONTINUATION: u8 = 9;
/// The largest payload that every peer takes.
pub const MAX_FRAME: usize = 16 << 10;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame. RFC 9113 §4.1.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length, [kind, flags].as_slice(), &stream.to_be_bytes(), payload].concat()
}

/// A header block: literals with new names, nothing indexed, no Huffman code, whatever the octets. RFC 7541 §6.2.2.
#[must_use]
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let text = |text: &[u8]| [integer(text.len()), text.to_vec()].concat();
    let field = |(name, value): &(N, V)| [vec![0], text(name.as_ref()), text(value.as_ref())].concat();
    fields.iter().flat_map(field).collect()
}

/// With a prefix of seven bits. RFC 7541 §5.1.
fn integer(value: usize) -> Vec<u8> {
    let low = |value: usize| u8::try_from(value & 0x7f).unwrap_or_default();
    if value < 0x7f {
        return vec![low(value)];
    }
    let (mut octets, mut rest) = (vec![0x7f], value - 0x7f);
    while rest >= 0x80 {
        octets.push(low(rest) | 0x80);
        rest >>= 7;
    }
    octets.push(low(rest));
    octets
}

/// A message as gRPC frames it, uncompressed.
#[must_use]
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], length.as_slice(), bytes].concat()
}

/// How many whole messages of gRPC stand in `body`.
#[must_use]
pub fn messages(body: &[u8]) -> Vec<&[u8]> {
    let (mut all, mut rest) = (Vec::new(), body);
    while let Some(([_, length @ ..], after)) = rest.split_first_chunk::<5>()
        && let Some((one, behind)) = after.split_at_checked(u32::from_be_bytes(*length) as usize)
    {
        all.push(one);
        rest = behind;
    }
    all
}

/// The head of a gRPC request, as most clients write it.
#[must_use]
pub fn grpc(path: &str) -> Vec<(&'static str, String)> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields.map(|(name, value)| (name, value.to_owned())).into()
}

/// A frame of a request, on the stream that the library chooses.
#[derive(Debug, Clone)]
pub struct Part {
    pub kind: u8,
    pub flags: u8,
    pub payload: Vec<u8>,
}

impl Part {
    /// A header block that ends with this frame.
    #[must_use]
    pub fn headers(block: Vec<u8>) -> Self {
        Self { kind: HEADERS, flags: END_HEADERS, payload: block }
    }

    /// The same in frames that are not too large for anybody. RFC 9113 §4.2.
    #[must_use]
    pub fn headers_in_pieces(block: &[u8]) -> Vec<Self> {
        let mut pieces: Vec<Self> = block
            .chunks(MAX_FRAME)
            .map(|piece| Self { kind: CONTINUATION, flags: 0, payload: piece.to_vec() })
            .collect();
        if let Some(first) = pieces.first_mut() {
            first.kind = HEADERS;
        }
        if let Some(last) = pieces.last_mut() {
            last.flags = END_HEADERS;
        }
        pieces
    }

    #[must_use]
    pub fn data(payload: Vec<u8>) -> Self {
        Self { kind: DATA, flags: 0, payload }
    }

    /// The same as the last of its stream.
    #[must_use]
    pub fn last(mut self) -> Self {
        self.flags |= END_STREAM;
        self
    }
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Not at all: what came was enough.
    Open,
    /// With these trailers, if any.
    Whole(Vec<(String, String)>),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, or the connection was closed.
    Gone(Option<u32>),
}

/// What came back. Without the date, which is no part of what is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: Option<u16>,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub end: End,
}

impl Answer {
    /// `grpc-status`, in the head or behind the body.
    #[must_use]
    pub fn grpc(&self) -> Option<u32> {
        let behind = match &self.end {
            End::Whole(trailers) => trailers.as_slice(),
            _ => &[],
        };
        let status = self.fields.iter().chain(behind).find(|(name, _)| name == "grpc-status");
        status.and_then(|(_, code)| code.parse().ok())
    }
}

/// A client on a connection of its own.
pub struct Peer {
    client: h2::client::SendRequest<Bytes>,
    parts: Arc<Mutex<VecDeque<Vec<Part>>>>,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl Peer {
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.context("connect to the API socket")?;
        let (from_server, to_server) = stream.into_split();
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (written, read) = tokio::io::split(theirs);
        let parts = Arc::<Mutex<VecDeque<Vec<Part>>>>::default();
        let rewriting = tokio::spawn(rewrite(written, to_server, Arc::clone(&parts)));
        let copying = tokio::spawn(copy(from_server, read));
        let (client, connection) = h2::client::handshake(ours).await?;
        let serving = tokio::spawn(async move { drop(connection.await) });
        let _tasks = [rewriting, copying, serving].map(AbortOnDropHandle::new);
        Ok(Self { client, parts, _tasks })
    }

    /// Sends `parts`, and returns what came once `enough` says so of the body, or the answer ends.
    ///
    /// # Errors
    /// Neither happens in time.
    pub async fn ask(&mut self, parts: &[Part], enough: impl Fn(&[u8]) -> bool) -> Result<Answer> {
        let mut answer = Answer { status: None, fields: Vec::new(), body: Vec::new(), end: End::Open };
        let hear = self.hear(parts.to_vec(), enough, &mut answer);
        let ended = tokio::time::timeout(http::PATIENCE, hear).await.context("no answer")?;
        match ended {
            Ok(()) => {}
            Err(error) if error.is_reset() => answer.end = End::Reset(error.reason().map_or(0, u32::from)),
            Err(error) => answer.end = End::Gone(error.reason().map(u32::from)),
        }
        Ok(answer)
    }

    async fn hear(
        &mut self,
        parts: Vec<Part>,
        enough: impl Fn(&[u8]) -> bool,
        answer: &mut Answer,
    ) -> Result<(), h2::Error> {
        let mut ready = self.client.clone().ready().await?;
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push_back(parts);
        let request = ::http::Request::new(());
        let (response, _) = ready.send_request(with_place(request), true)?;
        let (head, mut body) = response.await?.into_parts();
        answer.status = Some(head.status.as_u16());
        answer.fields = fields(&head.headers);
        while !enough(&answer.body) {
            let Some(data) = body.data().await else {
                let trailers = body.trailers().await?;
                answer.end = End::Whole(trailers.as_ref().map(fields).unwrap_or_default());
                break;
            };
            let data = data?;
            let _ = body.flow_control().release_capacity(data.len());
            answer.body.extend_from_slice(&data);
        }
        Ok(())
    }
}

/// The library wants a whole URI; it is thrown away.
fn with_place(mut request: ::http::Request<()>) -> ::http::Request<()> {
    *request.uri_mut() = ::http::Uri::from_static("http://localhost/");
    request
}

fn fields(map: &::http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let all = map.iter().filter(|(name, _)| *name != ::http::header::DATE);
    let mut all: Vec<_> = all.map(|(name, value)| (name.to_string(), text(value))).collect();
    all.sort();
    all
}

/// Passes on what the library writes, with the next parts in place of each of its HEADERS.
async fn rewrite(
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: impl AsyncWrite + Unpin,
    parts: Arc<Mutex<VecDeque<Vec<Part>>>>,
) {
    let mut preface = [0; PREFACE.len()];
    if from.read_exact(&mut preface).await.is_err() || to.write_all(&preface).await.is_err() {
        return;
    }
    loop {
        let mut head = [0; 9];
        if from.read_exact(&mut head).await.is_err() {
            return; // the library has closed it
        }
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        if from.read_exact(&mut payload).await.is_err() {
            return;
        }
        let stream = u32::from_be_bytes(stream);
        let bytes = match kind {
            HEADERS => {
                let next = parts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let parts = next.unwrap_or_default();
                parts.iter().flat_map(|part| frame(part.kind, part.flags, stream, &part.payload)).collect()
            }
            _ => frame(kind, flags, stream, &payload),
        };
        if to.write_all(&bytes).await.is_err() {
            return; // the server has; what it said before is still to be read
        }
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: tokio::io::WriteHalf<DuplexStream>) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
