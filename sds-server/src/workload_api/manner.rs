//! How an API that tells what a session may have is marked, counted and refused: the Workload API and the Broker API
//! have one engine, and differ in this.

use spiffe_bridge::node::EndReason;
use tonic::Status;

use crate::sds::of_end;

/// The manner of one API.
#[derive(Debug)]
pub(crate) struct Manner {
    /// What it is called where streams are listed.
    pub(crate) protocol: &'static str,
    /// The metadata that every request carries: a program that was tricked into calling the socket does not write it.
    pub(crate) header: &'static str,
    /// What a request without it is told.
    pub(crate) unmarked: &'static str,
    /// What is told when no stream is left.
    pub(crate) full: &'static str,
    /// Metrics: calls and streams that were refused, streams that are open, messages that were sent.
    pub(crate) refused: &'static str,
    pub(crate) streams: &'static str,
    pub(crate) responses: &'static str,
    /// What a session's end is told as.
    pub(crate) ended: fn(EndReason) -> Status,
    /// What becomes of a refusal of somebody who is not entitled.
    pub(crate) not_entitled: fn(Status) -> Status,
}

/// Workload Endpoint §3, §6.
pub(super) const WORKLOAD: &Manner = &Manner {
    protocol: "workload_api",
    header: "workload.spiffe.io",
    unmarked: "the metadata `workload.spiffe.io: true` must be there, once and in this spelling",
    full: "all streams are taken (workload_api.streams), or half of them by this caller",
    refused: "countersign_workload_api_refused_total",
    streams: "countersign_workload_api_streams",
    responses: "countersign_workload_api_responses_total",
    ended: of_end,
    not_entitled: std::convert::identity,
};
