//! The octets of a gRPC client on a connection of its own, written by hand: what a client costs must not hide what the
//! server does. HTTP/2 (RFC 9113), as much of it as one stream at a time needs; answers' headers are never read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const HEAD: usize = 9;
/// Octets that the other side may send before it hears of more: as many as there can be. §6.9.1
const WINDOW: u32 = i32::MAX as u32;

/// A frame. §4.1
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + payload.len());
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.extend_from_slice(payload);
    out
}

/// What a client sends first, up to its first call: windows that are never full.
pub fn hello() -> Vec<u8> {
    let mut settings = Vec::new();
    settings.put_u16(4); // SETTINGS_INITIAL_WINDOW_SIZE
    settings.put_u32(WINDOW);
    let update = (WINDOW - 65_535).to_be_bytes();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    [preface, frame(SETTINGS, 0, 0, &settings), frame(WINDOW_UPDATE, 0, 0, &update)].concat()
}

/// What the floor says first.
pub fn settings() -> Vec<u8> {
    [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()
}

/// The head of the floor's answer on a stream: `:status: 200` and nothing else, for whoever hears it does not read it.
pub fn answer(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[0x88])
}

/// What the floor answers to `octets`: where a call ends in them, an empty message and a status.
pub fn answer_calls(mut octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((head, rest)) = octets.split_first_chunk::<HEAD>() {
        let length = length(head);
        if head[3] == DATA && head[4] & END_STREAM != 0 {
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            out.extend(answer(stream));
            out.extend(data(stream, &[0; 5]));
            // `grpc-status: 0`, spelled.
            let status = [&[0x00, 11][..], b"grpc-status", &[1], b"0"].concat();
            out.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &status));
        }
        octets = rest.get(length..).unwrap_or_default();
    }
    out
}

fn length(head: &[u8; HEAD]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// A call that stays open, with its first message.
pub fn open(stream: u32, path: &str, more: &[(&str, &str)], message: &[u8]) -> Vec<u8> {
    let head = Head::Spelled { path, more }.encode();
    [frame(HEADERS, END_HEADERS, stream, &head), data(stream, message)].concat()
}

/// A message on a stream.
pub fn data(stream: u32, message: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, message)
}

/// A call with one message, whole.
pub fn call(stream: u32, head: Head<'_>, message: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, &head.encode()), frame(DATA, END_STREAM, stream, message)].concat()
}

/// A request's headers. HPACK (RFC 7541), never compressed.
pub enum Head<'a> {
    /// Every field in full, none kept.
    Spelled { path: &'a str, more: &'a [(&'a str, &'a str)] },
    /// Every field in full and kept by the other side, for [`Head::Kept`].
    Keeping { path: &'a str },
    /// As the last one that was kept.
    Kept,
}

/// With how many entries the static table ends; kept fields follow, the newest first. RFC 7541 §2.3.3
const STATIC: u8 = 61;

impl Head<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0x83, 0x86]; // `:method: POST`, `:scheme: http`
        let text = |out: &mut Vec<u8>, text: &str| {
            out.push(u8::try_from(text.len()).unwrap());
            out.extend_from_slice(text.as_bytes());
        };
        // By how the first octet of a literal begins: kept or not. `:path` is 4 there, `:authority` 1, and the name of
        // content-type 31. RFC 7541 §6.2
        let (literal, path, more): (u8, _, &[_]) = match self {
            Self::Spelled { path, more } => (0x00, path, more),
            Self::Keeping { path } => (0x40, path, &[]),
            Self::Kept => {
                out.extend((1..=4).rev().map(|nth| 0x80 | (STATIC + nth)));
                return out;
            }
        };
        for (index, value) in [(4, *path), (1, "sds")] {
            out.push(literal | index);
            text(&mut out, value);
        }
        match literal {
            0x40 => out.push(0x40 | 31),
            _ => out.extend([0x0f, 31 - 15]),
        }
        text(&mut out, "application/grpc");
        for (name, value) in [("te", "trailers")].iter().chain(more) {
            out.push(literal);
            text(&mut out, name);
            text(&mut out, value);
        }
        out
    }
}

/// What comes back, taken apart.
#[derive(Debug, Default)]
pub struct Reader {
    frames: BytesMut,
    message: BytesMut,
}

/// What is to be done about what came.
pub enum Came {
    /// A gRPC message, with its five octets of framing.
    Message(Bytes),
    /// These octets are the answer to something of HTTP/2.
    Reply(Vec<u8>),
    /// A stream ended.
    End,
}

impl Reader {
    pub fn push(&mut self, octets: &[u8]) {
        self.frames.extend_from_slice(octets);
    }

    pub fn next(&mut self) -> Option<Came> {
        loop {
            let head = self.frames.first_chunk::<HEAD>()?;
            let length = length(head);
            let (kind, flags) = (head[3], head[4]);
            if self.frames.len() < HEAD + length {
                return None;
            }
            self.frames.advance(HEAD);
            let payload = self.frames.split_to(length);
            if self.frames.is_empty() {
                self.frames = BytesMut::new(); // an idle client keeps nothing
            }
            match kind {
                DATA => self.message.extend_from_slice(&payload),
                SETTINGS if flags & ACK == 0 => return Some(Came::Reply(frame(SETTINGS, ACK, 0, &[]))),
                PING if flags & ACK == 0 => return Some(Came::Reply(frame(PING, ACK, 0, &payload))),
                3 | 7 => panic!("the server ended it: frame {kind}, {payload:?}"),
                _ => {}
            }
            if let Some((size, _)) = self.message.split_first_chunk::<5>() {
                let whole = 5 + u32::from_be_bytes([size[1], size[2], size[3], size[4]]) as usize;
                if self.message.len() >= whole {
                    let message = self.message.split_to(whole).freeze();
                    self.message = std::mem::take(&mut self.message);
                    return Some(Came::Message(message));
                }
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Some(Came::End);
            }
        }
    }
}
