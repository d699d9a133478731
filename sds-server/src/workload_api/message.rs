//! A message, encoded once for everybody who gets the same.

use bytes::Bytes;
use spiffe_bridge::identity::ContentHash;
use zeroize::Zeroizing;

/// A message in its frame. Wiped with its last reader: it may hold a key.
#[derive(Clone)]
pub(crate) struct Message {
    /// Frame and message. Whoever takes them answers for where they go.
    pub(super) framed: Bytes,
    /// Of all of it.
    pub(super) hash: ContentHash,
}

impl Message {
    pub(super) fn of(message: &impl prost::Message) -> Self {
        let len = message.encoded_len();
        // The full size at once: a vector that grows leaves copies of a key behind.
        let mut framed = Zeroizing::new(Vec::with_capacity(5 + len));
        framed.push(0); // not compressed
        framed.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        message.encode_raw(&mut *framed);
        let hash = ContentHash::of(&[&framed]);
        Self { framed: Bytes::from_owner(framed), hash }
    }
}
