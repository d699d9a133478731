//! What brokers are told when there is nothing (more) to tell: status codes, and why as `google.rpc.ErrorInfo`.
//! Broker API §4.8, Broker Endpoint §6.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::Any;
use spiffe_bridge::node::EndReason;
use tonic::{Code, Status};

use crate::workload_api::manner::Manner;

/// Broker Endpoint §3, §6.
pub(super) const BROKER: &Manner = &Manner {
    protocol: "broker_api",
    header: "broker.spiffe.io",
    unmarked: "the metadata `broker.spiffe.io: true` must be there, once and in this spelling",
    full: "all calls are taken (broker.streams), or half of them by this broker",
    refused: "countersign_broker_refused_total",
    streams: "countersign_broker_streams",
    responses: "countersign_broker_responses_total",
    ended,
    not_entitled,
};

/// Why a workload cannot be told of, in the standard's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No reference, or one that is none.
    Invalid,
    /// There is no such workload.
    NotFound,
    /// There is, and it may have nothing.
    NotEntitled,
}

impl Reason {
    const fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::NotEntitled => Code::PermissionDenied,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Invalid => "WORKLOAD_REFERENCE_INVALID",
            Self::NotFound => "WORKLOAD_NOT_FOUND",
            Self::NotEntitled => "WORKLOAD_NOT_ENTITLED",
        }
    }

    /// The status that says so, and its detail.
    pub(super) fn status(self, message: impl Into<String>) -> Status {
        let message = message.into();
        let info = ErrorInfo {
            reason: self.text().to_owned(),
            domain: "spiffe.io".to_owned(),
            metadata: BTreeMap::new(),
        };
        let type_url = "type.googleapis.com/google.rpc.ErrorInfo".to_owned();
        let details = vec![Any { type_url, value: info.encode_to_vec() }];
        let detail = Detail { code: self.code() as i32, message: message.clone(), details };
        Status::with_details(self.code(), message, detail.encode_to_vec().into())
    }
}

/// `google.rpc.Status`, as it goes into `grpc-status-details-bin`.
#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

fn not_entitled(status: Status) -> Status {
    Reason::NotEntitled.status(status.message())
}

/// Of the broker's own session or of the workload's: no reason is of both, but the server's shutting down.
fn ended(reason: EndReason) -> Status {
    match reason {
        EndReason::ProcessExited => Reason::NotFound.status("the referenced process has exited"),
        // The same pid, another program: what the broker holds is the former one's.
        EndReason::ProcessExecuted => another("runs another program"),
        EndReason::CredentialsChanged => another("has other credentials"),
        EndReason::ProcessMoved => another("was moved to another cgroup"),
        // Its user and group are known by then: /proc did not show the rest. Not no, but unknown. WE-17
        EndReason::NotAttested => Status::unavailable(
            "the server cannot look at the referenced process just now: it may be about to end, and the log says more",
        ),
        // Broker Endpoint §6: a new certificate mends it.
        EndReason::CertificateExpired | EndReason::CertificateNotTrusted => Status::unauthenticated(
            "the broker's SVID has expired, or its root is gone: connect with a new one",
        ),
        EndReason::NoEntry => {
            Status::permission_denied("no entry gives the identity of this broker any more")
        }
        // That the server shuts down, and what a later library may add.
        _ => Status::unavailable(reason.to_string()),
    }
}

/// Of a process that is another workload now, under the same pid.
fn another(since: &str) -> Status {
    let text = format!("the referenced process {since}: drop what was told of it, and refer to it again");
    Status::unavailable(text)
}
