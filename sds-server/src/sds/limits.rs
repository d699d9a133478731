//! What a client may make the server keep.

/// Bounds on streams, names and messages. Invariant 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open streams of all connections; one user has at most half of them. One Envoy opens one for each name (envoy-sds.md §2.1).
    pub streams: usize,
    /// Names that one stream subscribes to.
    pub names: usize,
    /// Bytes of the names that all streams subscribe to, with what is kept of each; one user has at most half of them.
    pub name_bytes: usize,
    /// Bytes of one request message. Envoy's first one is 61 KB.
    pub message_bytes: usize,
    /// Bytes kept of request messages whose end has not come, of all streams; one user has at most half of them.
    pub unfinished_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 100_000,
            names: 4096,
            name_bytes: 256 << 20,
            message_bytes: 1 << 20,
            unfinished_bytes: 128 << 20,
        }
    }
}
