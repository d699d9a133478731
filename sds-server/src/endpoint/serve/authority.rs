//! Clients of Unix sockets whose `:authority` is no authority: the path of the socket.
//!
//! gRPC's libraries for C++, Python, Ruby and PHP send the path percent-encoded (since 1.57), that for Java as it is. The
//! HTTP/2 library resets such a stream as malformed, by RFC 9113 §8.3.1, and nobody on this socket reads the value. So
//! letters that no authority has are made hyphens as the bytes come in, in place: the length stays, and with it what
//! both sides keep of earlier headers (HPACK's dynamic table).
//!
//! Only literals that are written plainly are looked at, as those libraries write them, and none but `:authority`; its name
//! is written out by one, and is the table's by the other.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`. RFC 9113 §3.4.
const PREFACE: u32 = 24;
const HEADER: u8 = 9;
const AUTHORITY: &[u8] = b":authority";
const AUTHORITY_LENGTH: u32 = 10;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// A stream whose authorities are mended as they are read.
#[derive(Debug)]
pub(super) struct Mended<T> {
    io: T,
    mender: Mender,
}

/// Where it stands in the bytes of a client.
#[derive(Debug)]
struct Mender {
    at: At,
    block: Block,
}

#[derive(Debug, Clone, Copy)]
enum At {
    /// So many bytes that are not looked at.
    Skip(u32),
    /// Within a frame's header, with what was read of it.
    Header { got: u8, length: u32, kind: u8, flags: u8 },
    /// Before the header block of a frame: `before` bytes, the first of which says how long the padding is.
    Before { before: u8, is_padded: bool, left: u32, padding: u32 },
    /// Within a header block, and what pads its frame.
    Block { left: u32, padding: u32 },
}

/// Where it stands in a header block. RFC 7541 §6.
#[derive(Debug, Clone, Copy)]
enum Block {
    Field,
    /// An index goes on; then comes nothing more, or a value.
    Index {
        value_follows: bool,
    },
    Length(Text),
    MoreLength {
        text: Text,
        is_plain: bool,
        length: u32,
        shift: u8,
    },
    Octets {
        text: Text,
        is_plain: bool,
        left: u32,
    },
    /// Within a name that is `:authority` so far.
    Name {
        matched: usize,
        left: u32,
    },
    /// Not what it should be: the HTTP/2 library will say so.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Name,
    Value,
    Authority,
}

impl Mender {
    const fn new() -> Self {
        Self { at: At::Skip(PREFACE), block: Block::Field }
    }

    /// Looks at the next bytes of the client.
    fn mend(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if let At::Skip(left) = self.at {
                let count = bytes.len().min(left as usize);
                // Not more than was left, which is a u32.
                let left = left - u32::try_from(count).unwrap_or(left);
                self.at = if left == 0 { FRAME } else { At::Skip(left) };
                bytes = bytes.get_mut(count..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first_mut() else { return };
            self.at = self.octet(first);
            bytes = rest;
        }
    }

    fn octet(&mut self, octet: &mut u8) -> At {
        match self.at {
            At::Skip(_) => self.at,
            At::Header { got, length, kind, flags } => {
                let (length, kind, flags) = match got {
                    0..=2 => (length << 8 | u32::from(*octet), kind, flags),
                    3 => (length, *octet, flags),
                    4 => (length, kind, *octet),
                    _ => (length, kind, flags),
                };
                if got + 1 < HEADER {
                    return At::Header { got: got + 1, length, kind, flags };
                }
                self.payload(length, kind, flags)
            }
            At::Before { before, is_padded, left, padding } => {
                let padding = if is_padded { u32::from(*octet) } else { padding };
                if before > 1 {
                    return At::Before { before: before - 1, is_padded: false, left, padding };
                }
                within(left.saturating_sub(padding), padding)
            }
            At::Block { left, padding } => {
                self.block = self.block.octet(octet);
                within(left - 1, padding)
            }
        }
    }

    fn payload(&mut self, length: u32, kind: u8, flags: u8) -> At {
        match kind {
            HEADERS => {
                self.block = Block::Field;
                let is_padded = flags & PADDED != 0;
                let before = u8::from(is_padded) + if flags & PRIORITY != 0 { 5 } else { 0 };
                let left = length.saturating_sub(u32::from(before));
                match before {
                    0 => within(length, 0),
                    _ if length >= u32::from(before) => At::Before { before, is_padded, left, padding: 0 },
                    _ => skip(length),
                }
            }
            CONTINUATION => within(length, 0),
            _ => skip(length),
        }
    }
}

/// The next frame.
const FRAME: At = At::Header { got: 0, length: 0, kind: 0, flags: 0 };

const fn skip(length: u32) -> At {
    if length == 0 { FRAME } else { At::Skip(length) }
}

const fn within(left: u32, padding: u32) -> At {
    if left == 0 { skip(padding) } else { At::Block { left, padding } }
}

impl Block {
    fn octet(self, octet: &mut u8) -> Self {
        let first = *octet;
        match self {
            Self::Field => match first {
                0x80.. => indexed(first & 0x7f == 0x7f),
                0x40..=0x7f => literal(first & 0x3f, 0x3f),
                0x20..=0x3f => indexed(first & 0x1f == 0x1f), // the table's size: no header
                _ => literal(first & 0x0f, 0x0f),
            },
            Self::Index { .. } if first >= 0x80 => self,
            Self::Index { value_follows: true } => Self::Length(Text::Value),
            Self::Index { value_follows: false } => Self::Field,
            Self::Length(text) => {
                let (is_plain, length) = (first < 0x80, u32::from(first & 0x7f));
                match length {
                    AUTHORITY_LENGTH if text == Text::Name && is_plain => {
                        Self::Name { matched: 0, left: length }
                    }
                    0x7f => Self::MoreLength { text, is_plain, length, shift: 0 },
                    _ => Self::octets(text, is_plain, length),
                }
            }
            Self::MoreLength { text, is_plain, length, shift } => {
                // Longer than any header block that is taken.
                if shift > 21 {
                    return Self::Lost;
                }
                let length = length + (u32::from(first & 0x7f) << shift);
                match first {
                    0x80.. => Self::MoreLength { text, is_plain, length, shift: shift + 7 },
                    _ => Self::octets(text, is_plain, length),
                }
            }
            Self::Octets { text, is_plain, left } => {
                if text == Text::Authority && is_plain && !is_of_authority(first) {
                    *octet = b'-';
                }
                Self::octets(text, is_plain, left - 1)
            }
            Self::Name { matched, left } => match (AUTHORITY.get(matched) == Some(&first), left - 1) {
                (true, 0) if matched + 1 == AUTHORITY.len() => Self::Length(Text::Authority),
                (true, left @ 1..) => Self::Name { matched: matched + 1, left },
                (_, left) => Self::octets(Text::Name, true, left),
            },
            Self::Lost => Self::Lost,
        }
    }

    const fn octets(text: Text, is_plain: bool, left: u32) -> Self {
        match (left, text) {
            (0, Text::Name) => Self::Length(Text::Value),
            (0, _) => Self::Field,
            _ => Self::Octets { text, is_plain, left },
        }
    }
}

const fn indexed(goes_on: bool) -> Block {
    if goes_on { Block::Index { value_follows: false } } else { Block::Field }
}

/// A literal whose name is number `index` of the table; 0: it is written out. RFC 7541 appendix A has `:authority` first.
const fn literal(index: u8, most: u8) -> Block {
    match index {
        0 => Block::Length(Text::Name),
        1 => Block::Length(Text::Authority),
        _ if index == most => Block::Index { value_follows: true },
        _ => Block::Length(Text::Value),
    }
}

/// RFC 3986 §3.2, but for percent-encoding, which the HTTP/2 library does not take.
const fn is_of_authority(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(octet, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
        || matches!(octet, b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'[' | b']')
}

impl<T> Mended<T> {
    pub(super) const fn new(io: T) -> Self {
        Self { io, mender: Mender::new() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Mended<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.mender.mend(buf.filled_mut().get_mut(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Mended<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn text(octets: &[u8]) -> Vec<u8> {
        [&[u8::try_from(octets.len()).unwrap()], octets].concat()
    }

    /// The preface and a request, with `authority` under a name that is written so.
    fn request(name: &[u8], authority: &[u8]) -> Vec<u8> {
        let path = [&[0x44][..], &text(b"/SpiffeWorkloadAPI/FetchX509SVID")].concat();
        let odd =
            [&[0x00][..], &text(b":authoritx"), &text(b"/%"), &[0x10], &text(b":auth"), &text(b"/")].concat();
        let named = [&[0x40][..], &text(b"workload.spiffe.io"), &text(b"true/%")].concat();
        let block =
            [&[0x3f, 0xe1, 0x1f, 0x83, 0x86][..], &path, &odd, name, &text(authority), &named].concat();
        let (first, second) = block.split_at(block.len() / 2);
        [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            &frame(4, 0, &[]),
            &frame(0, 0, b"\x41\x03%/%"), // data is left alone
            &frame(HEADERS, PADDED | PRIORITY, &[&[3, 0, 0, 0, 0, 16][..], first, b"%/%"].concat()),
            &frame(CONTINUATION, 4, second),
            &frame(HEADERS, 4, &[0x82, 0xbf]),
        ]
        .concat()
    }

    fn mended(mut bytes: Vec<u8>, cut: usize) -> Vec<u8> {
        let mut mender = Mender::new();
        bytes.chunks_mut(cut.max(1)).for_each(|part| mender.mend(part));
        bytes
    }

    #[test]
    fn only_what_is_no_authority_is_mended_however_the_bytes_are_cut() {
        for (authority, expected) in [
            (&b"tmp%2Frun%2Fapi.sock"[..], &b"tmp-2Frun-2Fapi.sock"[..]),
            (b"/run/countersign/api.sock", b"-run-countersign-api.sock"),
            (b"localhost", b"localhost"),
            (b"[::1]:8080", b"[::1]:8080"),
            (b"", b""),
        ] {
            // As gRPC's C library names it, and as Netty does.
            for name in [&[&[0x40][..], &text(b":authority")].concat()[..], &[0x41], &[0x01], &[0x11]] {
                let whole = request(name, authority);
                for cut in 1..=whole.len() {
                    assert_eq!(mended(whole.clone(), cut), request(name, expected), "cut {cut}");
                }
            }
            let taken = http::uri::Authority::try_from(expected);
            assert!(taken.is_ok() || expected.is_empty(), "the HTTP/2 library takes it");
        }
    }

    #[test]
    fn what_is_compressed_is_left_alone() {
        let value = [0x80 | 3, b'%', b'/', b'%'];
        let block = [&[0x41][..], &value].concat();
        let bytes = [&[0; 24][..], &frame(HEADERS, 4, &block)].concat();
        assert_eq!(mended(bytes.clone(), 7), bytes);
    }

    proptest! {
        #[test]
        fn no_bytes_lead_it_astray(bytes: Vec<u8>, cut in 1usize..50) {
            let start = [&[0; 24][..], &bytes].concat();
            let whole = mended(start.clone(), usize::MAX);
            prop_assert_eq!(whole.len(), start.len());
            prop_assert_eq!(mended(start, cut), whole);
        }
    }
}
