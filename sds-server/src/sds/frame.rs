//! gRPC's frames over HTTP/2: five bytes before each message. gRPC over HTTP2, "Length-Prefixed-Message".

use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// One byte that says whether the message is compressed, four with its length.
pub const HEADER_BYTES: usize = 5;

/// A message ready to send: its beginning, made for one stream, and the content that all streams share. The HTTP/2
/// library sends it as one piece and copies neither.
#[derive(Debug, Default)]
pub struct Frame {
    /// Header, and the fields that differ from stream to stream.
    pub head: Bytes,
    /// The encoded resource.
    pub content: Option<Bytes>,
}

impl Frame {
    /// A message without a head of its own.
    #[must_use]
    pub fn whole(head: Bytes) -> Self {
        Self { head, content: None }
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.head.len() + self.content.as_ref().map_or(0, Bytes::len)
    }

    fn chunk(&self) -> &[u8] {
        match &self.content {
            Some(content) if self.head.is_empty() => content,
            _ => &self.head,
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [Some(&self.head), self.content.as_ref()];
        let filled = parts.into_iter().flatten().filter(|part| !part.is_empty()).zip(slices);
        filled.map(|(part, slice)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, count: usize) {
        let of_head = count.min(self.head.len());
        self.head.advance(of_head);
        if let Some(content) = &mut self.content {
            content.advance(count - of_head);
        }
    }
}

/// Why the bytes of a client are not gRPC's frames.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// No compression was negotiated, and none is needed for such small messages.
    #[error("compressed messages are not served: send them uncompressed")]
    Compressed,
    /// The first byte is neither 0 nor 1.
    #[error("a message begins with flag {0}: only 0 is known")]
    Flag(u8),
    /// Invariant 11.
    #[error("a request of {len} bytes: at most {max} are allowed")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
}

/// Leaves room for the header.
pub(super) fn begin(buf: &mut BytesMut) {
    buf.extend_from_slice(&[0; HEADER_BYTES]);
}

/// Writes the header of the message that is `buf` from its sixth byte on, followed by `content`.
pub(super) fn end(buf: BytesMut, content: Option<Bytes>) -> Frame {
    let buf = end_with(buf, content.as_ref().map_or(0, Bytes::len));
    Frame { head: buf.freeze(), content }
}

/// The same, followed by `more` bytes that the caller sends.
pub(super) fn end_with(mut buf: BytesMut, more: usize) -> BytesMut {
    let len = buf.len() - HEADER_BYTES + more;
    // A bundle of 4 GB is not one that Envoy would take: it would be cut off by its own limit.
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(header) = buf.get_mut(1..HEADER_BYTES) {
        header.copy_from_slice(&len);
    }
    buf
}

/// Cuts a client's bytes into messages. Keeps no memory between messages, and never more than one limit.
#[derive(Debug, Default)]
pub struct Reader {
    chunk: Bytes,
    partial: Vec<u8>,
}

impl Reader {
    /// Takes the next bytes; to be called when [`Reader::next`] has returned `None`.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.partial.extend_from_slice(&self.chunk);
            self.chunk = chunk;
        }
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// [`FrameError`], after which nothing more can be read.
    pub fn next(&mut self, max: usize) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_empty() {
            // The common case, without a copy: a message within one chunk.
            let Some(len) = message_len(&self.chunk, max)? else {
                self.keep(HEADER_BYTES);
                return Ok(None);
            };
            if let Some(rest) = self.chunk.len().checked_sub(HEADER_BYTES + len) {
                self.chunk.advance(HEADER_BYTES);
                let message = self.chunk.split_to(len);
                if rest == 0 {
                    self.chunk = Bytes::new();
                }
                return Ok(Some(message));
            }
        }
        self.keep(HEADER_BYTES);
        let Some(len) = message_len(&self.partial, max)? else { return Ok(None) };
        self.keep(HEADER_BYTES + len);
        if self.partial.len() < HEADER_BYTES + len {
            return Ok(None);
        }
        let mut message = Bytes::from(std::mem::take(&mut self.partial));
        message.advance(HEADER_BYTES);
        Ok(Some(message))
    }

    /// How long the unfinished message is, in bytes; what is kept of it if that is not known yet.
    #[must_use]
    pub fn awaited(&self) -> usize {
        message_len(&self.partial, usize::MAX)
            .ok()
            .flatten()
            .map_or(self.partial.len(), |len| HEADER_BYTES + len)
    }

    /// Whether the bytes end within a message.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        !self.partial.is_empty() || !self.chunk.is_empty()
    }

    /// Moves bytes from the chunk until `target` are kept.
    fn keep(&mut self, target: usize) {
        let count = target.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(count));
        if self.chunk.is_empty() {
            self.chunk = Bytes::new(); // lets go of the connection's buffer
        }
    }
}

fn message_len(bytes: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    match bytes.first() {
        Some(0) | None => {}
        Some(1) => return Err(FrameError::Compressed),
        Some(flag) => return Err(FrameError::Flag(*flag)),
    }
    let Some(&[_, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if len > max { Err(FrameError::TooLarge { len, max }) } else { Ok(Some(len)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let messages: [&[u8]; 4] = [b"first", b"", b"x", b"the last one"];
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend_from_slice(&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()]);
            bytes.extend_from_slice(message);
        }
        for cut in 1..=bytes.len() {
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            for chunk in bytes.chunks(cut) {
                reader.push(Bytes::copy_from_slice(chunk));
                while let Some(message) = reader.next(100).unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, messages, "cut {cut}");
            assert!(!reader.is_within_message());
        }
    }

    #[test]
    fn what_is_compressed_unknown_or_too_large_is_refused() {
        let check = |bytes: &'static [u8], expected| {
            let mut reader = Reader::default();
            reader.push(Bytes::from_static(bytes));
            assert_eq!(reader.next(100), Err(expected));
        };
        check(&[1, 0, 0, 0, 0], FrameError::Compressed);
        check(&[7], FrameError::Flag(7));
        check(&[0, 0, 0, 1, 0], FrameError::TooLarge { len: 256, max: 100 });
    }
}
