//! What is counted of an API: typed events, enum labels, no label for a workload.

use metrics::{counter, gauge};

use super::manner::Manner;
use super::method::Stream;

/// Why a call was refused or a stream ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedFor {
    /// Not gRPC, or not a call that we serve.
    Method,
    /// Without the security header.
    Header,
    /// More streams than the limit.
    Streams,
    /// A request that is too long, too slow or unreadable.
    Message,
    /// No entry matches the caller.
    NoIdentity,
    /// We cannot serve it yet, or no more.
    Unavailable,
    /// A token that is not valid, or not for that audience.
    Token,
    /// The caller has no session, or it ended.
    Session,
}

impl RefusedFor {
    const fn label(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Header => "header",
            Self::Streams => "streams",
            Self::Message => "message",
            Self::NoIdentity => "no_identity",
            Self::Unavailable => "unavailable",
            Self::Token => "token",
            Self::Session => "session",
        }
    }

    pub(crate) fn count(self, manner: &Manner) {
        counter!(manner.refused, "reason" => self.label()).increment(1);
    }
}

/// A stream that is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Open(&'static Manner, Stream);

impl Open {
    pub(super) fn new(manner: &'static Manner, method: Stream) -> Self {
        gauge!(manner.streams, "method" => method.label()).increment(1);
        Self(manner, method)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(self.0.streams, "method" => self.1.label()).decrement(1);
    }
}

pub(super) fn sent(manner: &Manner, method: &'static str) {
    counter!(manner.responses, "method" => method).increment(1);
}
