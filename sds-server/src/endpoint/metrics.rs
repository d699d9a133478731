//! What the endpoint counts.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::limits::Refused;

const OPEN: &str = "countersign_connections";
const ACCEPTED: &str = "countersign_connections_accepted_total";
const REFUSED: &str = "countersign_connections_refused_total";

/// Describes the metrics of this module. Call it after the recorder is installed.
pub fn describe() {
    describe_gauge!(OPEN, "Connections that are open on the API socket.");
    describe_counter!(ACCEPTED, "Connections that were accepted on the API socket.");
    describe_counter!(REFUSED, "Connections that were closed before their first request, by reason.");
    gauge!(OPEN).set(0.0);
    counter!(ACCEPTED).absolute(0);
    for reason in Refused::ALL {
        counter!(REFUSED, "reason" => reason.label()).absolute(0);
    }
}

pub(super) fn refused(reason: Refused) {
    counter!(REFUSED, "reason" => reason.label()).increment(1);
}

/// Counts one open connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Open(());

impl Open {
    pub(super) fn new() -> Self {
        counter!(ACCEPTED).increment(1);
        gauge!(OPEN).increment(1.0);
        Self(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(OPEN).decrement(1.0);
    }
}
