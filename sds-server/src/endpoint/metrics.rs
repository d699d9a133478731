//! What the endpoint counts.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::limits::Refused;

const OPEN: &str = "countersign_connections";
const ACCEPTED: &str = "countersign_connections_accepted_total";
const REMOTE_OPEN: &str = "countersign_remote_connections";
const REMOTE_ACCEPTED: &str = "countersign_remote_connections_accepted_total";
const BROKER_OPEN: &str = "countersign_broker_connections";
const BROKER_ACCEPTED: &str = "countersign_broker_connections_accepted_total";
const CLIENT_CA: &str = "countersign_remote_client_ca_good";
const BUSY: &str = "countersign_busy_callers";
const REFUSED: &str = "countersign_connections_refused_total";
const PANICKED: &str = "countersign_requests_panicked_total";

/// Describes the metrics of this module. Call it after the recorder is installed.
pub fn describe() {
    describe_gauge!(OPEN, "Connections that are open on the API socket.");
    describe_counter!(ACCEPTED, "Connections that were accepted on the API socket.");
    describe_counter!(REFUSED, "Connections that the server closed, by reason.");
    describe_gauge!(REMOTE_OPEN, "Connections of remote callers that are open, their handshakes done.");
    describe_counter!(REMOTE_ACCEPTED, "Connections of remote callers whose handshakes were done.");
    describe_gauge!(BROKER_OPEN, "Connections of brokers that are open, their handshakes done.");
    describe_counter!(BROKER_ACCEPTED, "Connections of brokers whose handshakes were done.");
    describe_gauge!(
        CLIENT_CA,
        "1 while remote.client_ca can be used; 0 while the CAs read before stay, or none is named."
    );
    describe_gauge!(
        BUSY,
        "Callers (processes, addresses of the network) that keep the server busy, once for each of its threads that they do."
    );
    for name in [OPEN, REMOTE_OPEN, BROKER_OPEN, CLIENT_CA, BUSY] {
        gauge!(name).set(0.0);
    }
    describe_counter!(
        PANICKED,
        "Requests that were reset because the server's own code failed: faults of the server."
    );
    for name in [ACCEPTED, REMOTE_ACCEPTED, BROKER_ACCEPTED, PANICKED] {
        counter!(name).absolute(0);
    }
    for reason in Refused::ALL {
        counter!(REFUSED, "reason" => reason.label()).absolute(0);
    }
}

/// What worked on a request has panicked.
pub(super) fn panicked() {
    counter!(PANICKED).increment(1);
}

pub(super) fn refused(reason: Refused) {
    counter!(REFUSED, "reason" => reason.label()).increment(1);
}

/// Whether the file of the CAs of remote callers can be used.
pub(super) fn client_ca(is_good: bool) {
    gauge!(CLIENT_CA).set(if is_good { 1.0 } else { 0.0 });
}

/// Counts one open connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Open(&'static str);

/// Counts a caller that keeps a thread busy for as long as it does.
#[derive(Debug)]
pub(super) struct Busy(());

impl Busy {
    pub(super) fn count() -> Self {
        gauge!(BUSY).increment(1.0);
        Self(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        gauge!(BUSY).decrement(1.0);
    }
}

impl Open {
    pub(super) fn local() -> Self {
        Self::count(ACCEPTED, OPEN)
    }

    pub(super) fn remote() -> Self {
        Self::count(REMOTE_ACCEPTED, REMOTE_OPEN)
    }

    pub(super) fn broker() -> Self {
        Self::count(BROKER_ACCEPTED, BROKER_OPEN)
    }

    fn count(accepted: &'static str, open: &'static str) -> Self {
        counter!(accepted).increment(1);
        gauge!(open).increment(1.0);
        Self(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1.0);
    }
}
