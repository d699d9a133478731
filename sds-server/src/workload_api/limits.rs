//! What clients of the Workload API may make the server keep.

/// Bounds on streams. Invariant 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open streams of all connections, reflection and health included; one user has at most half of them. A client
    /// library opens one or two.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams: 100_000 }
    }
}

/// The longest request: a token to be validated, and whom it is for.
pub(super) const MESSAGE_BYTES: usize = 64 << 10;
/// Bytes of requests whose end has not come yet, of all calls; one user has at most half.
pub(super) const UNFINISHED_BYTES: usize = 16 << 20;
