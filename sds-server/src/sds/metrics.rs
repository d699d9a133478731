//! What is counted of SDS: typed events, enum labels, no label for a workload.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::request::{Heard, Protocol};

/// Why a stream was refused or ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusedFor {
    /// Not gRPC, or not a method that we serve.
    Method,
    /// More streams than the limit.
    Streams,
    /// More names than the limit.
    Names,
    /// A message that is too large, compressed or unreadable.
    Message,
    /// Another type_url, or another node.
    Contract,
    /// The caller has no session, or it ended.
    Session,
}

impl RefusedFor {
    const ALL: [Self; 6] =
        [Self::Method, Self::Streams, Self::Names, Self::Message, Self::Contract, Self::Session];

    fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Streams => "streams",
            Self::Names => "names",
            Self::Message => "message",
            Self::Contract => "contract",
            Self::Session => "session",
        }
    }
}

/// Something that happened on a stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Opened(Protocol),
    Closed(Protocol),
    Heard(Protocol, Heard),
    Sent(Protocol),
    Refused(RefusedFor),
}

struct Of {
    streams: Gauge,
    requests: Counter,
    stale: Counter,
    responses: Counter,
    acks: Counter,
    nacks: Counter,
    took: Histogram,
}

impl Of {
    fn new(protocol: Protocol) -> Self {
        let p = protocol.as_str();
        Self {
            streams: gauge!("countersign_sds_streams", "protocol" => p),
            requests: counter!("countersign_sds_requests_total", "protocol" => p),
            stale: counter!("countersign_sds_stale_requests_total", "protocol" => p),
            responses: counter!("countersign_sds_responses_total", "protocol" => p),
            acks: counter!("countersign_sds_acks_total", "protocol" => p),
            nacks: counter!("countersign_sds_nacks_total", "protocol" => p),
            took: histogram!("countersign_sds_ack_seconds", "protocol" => p),
        }
    }
}

struct Handles {
    sotw: Of,
    delta: Of,
    refused: [Counter; 6],
}

/// Handles of the recorder that was installed when they were made.
#[derive(Clone)]
pub(super) struct Metrics(Arc<Handles>);

impl Metrics {
    pub(super) fn new() -> Self {
        let refused = RefusedFor::ALL
            .map(|reason| counter!("countersign_sds_refused_total", "reason" => reason.as_str()));
        Self(Arc::new(Handles { sotw: Of::new(Protocol::Sotw), delta: Of::new(Protocol::Delta), refused }))
    }

    pub(super) fn record(&self, event: Event) {
        match event {
            Event::Opened(p) => self.of(p).streams.increment(1),
            Event::Closed(p) => self.of(p).streams.decrement(1),
            Event::Sent(p) => self.of(p).responses.increment(1),
            Event::Heard(p, heard) => {
                let of = self.of(p);
                of.requests.increment(1);
                match heard {
                    Heard::Asked | Heard::Repeated | Heard::OtherType => {}
                    Heard::Acked(took) => of.acked(took),
                    Heard::Nacked(_) => of.nacks.increment(1),
                    Heard::Stale => of.stale.increment(1),
                }
            }
            Event::Refused(reason) => {
                let at = RefusedFor::ALL.iter().position(|r| *r == reason);
                if let Some(counter) = at.and_then(|at| self.0.refused.get(at)) {
                    counter.increment(1);
                }
            }
        }
    }

    fn of(&self, protocol: Protocol) -> &Of {
        match protocol {
            Protocol::Sotw => &self.0.sotw,
            Protocol::Delta => &self.0.delta,
        }
    }
}

impl Of {
    fn acked(&self, took: Duration) {
        self.acks.increment(1);
        self.took.record(took.as_secs_f64());
    }
}
