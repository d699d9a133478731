//! What clients of the Workload API are served, and what they may make the server keep.

use std::time::Duration;

use spiffe_bridge::clock::duration;

/// What is served, and bounds on streams. Invariant 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Open streams of all connections, reflection and health included; one user has at most half of them. A client
    /// library opens one or two.
    pub streams: usize,
    /// By how much the clocks of those who issue tokens and ours may differ, when a JWT-SVID is validated.
    #[serde(with = "duration")]
    pub jwt_leeway: Duration,
    /// WIT-SVIDs too. The standard for them is not stable yet.
    pub wit_svids: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { streams: 100_000, jwt_leeway: Duration::from_secs(5), wit_svids: false }
    }
}

/// The longest request: a token to be validated, and whom it is for.
pub(super) const MESSAGE_BYTES: usize = 64 << 10;
/// Bytes of requests whose end has not come yet, of all calls; one user has at most half.
pub(super) const UNFINISHED_BYTES: usize = 16 << 20;
