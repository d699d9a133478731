//! What a client says, the same for both protocols.

use std::fmt;
use std::time::Duration;

use super::nack;

/// The two ways to speak xDS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// State of the world: StreamSecrets.
    Sotw,
    /// Incremental: DeltaSecrets.
    Delta,
}

impl Protocol {
    /// As metrics and the status spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sotw => "sotw",
            Self::Delta => "delta",
        }
    }
}

/// Which service the stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// SecretDiscoveryService: secrets alone, and no other type has a place there.
    Secrets,
    /// AggregatedDiscoveryService: requests of all types come, and secrets are answered.
    Aggregated,
}

/// Which Envoy it says it is. For people to read: what is granted depends on the session alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `--service-node`
    pub id: Box<str>,
    /// `--service-cluster`
    pub cluster: Box<str>,
}

/// One request, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `None` if it was absent or empty.
    pub node: Option<Node>,
    /// Empty where the service implies it.
    pub type_url: String,
    /// That of the response which this answers; empty if it answers none.
    pub nonce: String,
    /// `error_detail`: its presence, and nothing else, makes a NACK. XD-05.
    pub error: Option<nack::Reason>,
    /// Whether it says that it holds something from an earlier stream: believed of what it weakens, and only a hint
    /// else (XD-22).
    pub holds: bool,
    /// Which names it wants.
    pub names: Names,
}

/// The names of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// SotW: all of them.
    All(Vec<String>),
    /// Delta: what changes.
    Change {
        /// Wanted from now on, or once more.
        subscribe: Vec<String>,
        /// Wanted no more.
        unsubscribe: Vec<String>,
        /// `initial_resource_versions`: what the client says it holds.
        held: Vec<(String, String)>,
    },
}

impl Names {
    /// Whether none is named: a delta request that only answers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::All(names) => names.is_empty(),
            Self::Change { subscribe, unsubscribe, .. } => subscribe.is_empty() && unsubscribe.is_empty(),
        }
    }
}

/// What a request turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It answers nothing: the first request, or a change of names.
    Asked,
    /// The first ACK of a response, this long after it was sent.
    Acked(Duration),
    /// The first NACK of a response.
    Nacked(nack::Kind),
    /// It answers a response that has been answered, or one that said what is not available.
    Repeated,
    /// Its nonce is not one of a current response. XD-10, XD-11.
    Stale,
    /// ADS: it is of a type that is not served, and stays unanswered.
    OtherType,
}

/// Why a stream is ended for what its client said.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// XD-02
    #[error("this service serves {} only: set that type_url or none", super::secret::TYPE_URL)]
    TypeUrl,
    /// XD-03
    #[error("the node id changed within the stream: open a new stream for another node")]
    NodeChanged,
    /// Invariant 11.
    #[error("the node id is longer than {MAX_NODE_BYTES} bytes")]
    NodeTooLong,
    /// Invariant 11.
    #[error("more than {max} names in one stream: split them over several streams")]
    TooManyNames {
        /// How many are allowed.
        max: usize,
    },
    /// Likewise.
    #[error(
        "no room for so many names (sds.name_bytes): this user's streams have half of it, or all is taken"
    )]
    NoRoomForNames,
    /// The message is not what its method takes.
    #[error("the request cannot be decoded")]
    Undecodable,
}

/// The longest node id and cluster that are kept, in bytes.
pub const MAX_NODE_BYTES: usize = 1024;

/// A nonce: unique in its stream by the count, not taken for one of another stream by the salt. XD-04.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    /// One for each stream.
    pub salt: u64,
    /// Counts the responses of the stream, from 1.
    pub count: u64,
}

impl Nonce {
    /// The count of a nonce of the stream that has `salt`.
    pub(super) fn count_in(text: &str, salt: u64) -> Option<u64> {
        let (stream, count) = text.split_once('-')?;
        let stream = u64::from_str_radix(stream, 16).ok()?;
        (stream == salt).then(|| u64::from_str_radix(count, 16).ok()).flatten()
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.salt, self.count)
    }
}
