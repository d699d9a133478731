//! What the metrics mean, of the modules that do not describe their own: the library names no exporter, and what
//! was never counted must still show as 0, or no alert could see its first time.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::sds::check::CheckError;

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

/// Name, kind, the label and its values, meaning. docs/operations.md has the same, and a test holds that.
type Row = (&'static str, Kind, Option<(&'static str, &'static [&'static str])>, &'static str);

const PROTOCOLS: Option<(&str, &[&str])> = Some(("protocol", &["sotw", "delta"]));
const ATTESTORS: Option<(&str, &[&str])> = Some(("attestor", &["docker", "systemd", "k8s"]));

#[rustfmt::skip]
const METRICS: &[Row] = &[
    ("countersign_sds_streams", Gauge, PROTOCOLS,
     "SDS streams that are open."),
    ("countersign_sds_requests_total", Counter, PROTOCOLS,
     "SDS requests that came."),
    ("countersign_sds_stale_requests_total", Counter, PROTOCOLS,
     "SDS requests that answer an older response, and say nothing of the newest."),
    ("countersign_sds_responses_total", Counter, PROTOCOLS,
     "SDS responses that were sent, each with one secret or the removal of one."),
    ("countersign_sds_acks_total", Counter, PROTOCOLS,
     "SDS responses that were acknowledged."),
    ("countersign_sds_nacks_total", Counter, PROTOCOLS,
     "SDS responses that were refused by the client (NACK)."),
    ("countersign_sds_ack_seconds", Histogram, None,
     "Time from an SDS response to its acknowledgement."),
    ("countersign_sds_refused_total", Counter, Some(("reason", &["method", "streams", "names", "message", "contract", "session"])),
     "SDS streams that were refused or ended by the server, by reason."),
    ("countersign_sds_withheld_total", Counter, Some(("reason", CheckError::REASONS)),
     "Secrets that were not sent because Envoy would refuse them, or accept them and fail open, by reason."),
    ("countersign_receipts_total", Counter, None,
     "Flushes of Envoys' statistics that were taken: what they prove of the secrets in use."),
    ("countersign_receipts_refused_total", Counter, Some(("reason", &["message", "session", "rate"])),
     "Flushes of statistics that were refused, by reason."),
    ("countersign_receipts_standings_total", Counter,
     Some(("standing", &["sent", "refused", "acknowledged", "possibly_applied", "proved_applied"])),
     "Secrets of clients that came to stand so."),
    ("countersign_roster_members", Gauge, None,
     "Members of the roster: who gets certificates of ours, or roots to verify them, by SDS; also those that are away."),
    ("countersign_roster_unaccounted", Gauge, None,
     "1 while somebody may hold a certificate of whom the roster knows nothing: the server ended without closing it."),
    ("countersign_roster_turned_away_total", Counter, None,
     "Reports that found no place in the roster: its answers are incomplete."),
    ("countersign_workload_api_streams", Gauge, Some(("method", &["x509_svid", "x509_bundles", "jwt_bundles", "wit_svid", "wit_bundles"])),
     "Workload API streams that are open."),
    ("countersign_workload_api_responses_total", Counter, Some(("method", &["x509_svid", "x509_bundles", "jwt_svid", "jwt_bundles", "jwt_validate", "wit_svid", "wit_bundles"])),
     "Workload API messages that were sent, by call."),
    ("countersign_workload_api_refused_total", Counter, Some(("reason", &["method", "header", "streams", "message", "no_identity", "unavailable", "token", "session"])),
     "Workload API calls and streams that were refused or ended by the server, by reason."),
    ("countersign_broker_streams", Gauge, Some(("method", &["x509_svid", "x509_bundles", "jwt_bundles"])),
     "Broker API streams that are open."),
    ("countersign_broker_responses_total", Counter, Some(("method", &["x509_svid", "x509_bundles", "jwt_svid", "jwt_bundles"])),
     "Broker API messages that were sent, by call."),
    ("countersign_broker_refused_total", Counter, Some(("reason", &["method", "header", "streams", "message", "no_identity", "unavailable", "token", "session"])),
     "Broker API calls and streams that were refused or ended by the server, by reason."),
    ("countersign_issuances_total", Counter, Some(("outcome", &["issued", "failed"])),
     "SVIDs that the node asked for, by what came of it."),
    ("countersign_attestor_failures_total", Counter, ATTESTORS,
     "Questions about callers that a service of the machine did not answer."),
    ("countersign_attestor_failing", Gauge, ATTESTORS,
     "1 while the service does not answer: its selectors are unknown."),
    ("countersign_node_identities", Gauge, None,
     "Identities that the node holds in memory."),
    ("countersign_node_tokens", Gauge, None,
     "JWT-SVIDs and WIT-SVIDs that the node holds in memory."),
    ("countersign_node_views", Gauge, None,
     "Kinds of caller (sets of selectors) that are served."),
    ("countersign_node_failing_identities", Gauge, None,
     "Identities whose last renewal failed."),
    ("countersign_served_not_after_timestamp_seconds", Gauge, None,
     "When the first certificate expires among those of connected callers, in Unix seconds; 0 if there are none."),
    ("countersign_svids_issued_total", Counter, Some(("kind", &["x509", "jwt", "wit"])),
     "SVIDs that the authority signed and recorded."),
    ("countersign_svids_refused_total", Counter, Some(("fault", &["request", "authority"])),
     "SVIDs that the authority did not sign, by whose fault it is."),
    ("countersign_root_not_after_timestamp_seconds", Gauge, None,
     "When the root certificate expires, in Unix seconds."),
    ("countersign_issuer_batch_leaves", Histogram, None,
     "Leaves that are signed together and share their writes to disk."),
    ("countersign_issuer_reserve_seconds", Histogram, None,
     "Time to make the reservations of a batch durable."),
    ("countersign_issuer_record_seconds", Histogram, None,
     "Time to make the issuances of a batch durable."),
    ("countersign_store_transactions_total", Counter, None,
     "Transactions that the store made durable or found in conflict."),
    ("countersign_store_commit_seconds", Histogram, None,
     "Time of a commit: of all transactions that shared it."),
    ("countersign_store_failures_total", Counter, None,
     "Commits that failed: the disk is full or broken."),
    ("countersign_entries", Gauge, None,
     "Entries in force."),
    ("countersign_trust_domains", Gauge, None,
     "Other trust domains whose bundles are known."),
    ("countersign_crl_not_after_timestamp_seconds", Gauge, None,
     "When the first CRL of another trust domain runs out, in Unix seconds; 0 if there are none."),
    ("countersign_entry_problems", Gauge, None,
     "Documents that cannot be used."),
    ("countersign_entries_held_back", Gauge, None,
     "1 while the brake holds a change back that would withdraw many entries."),
];

/// Describes the metrics, and sets each counter and gauge to 0. Call it after the recorder is installed, before
/// anything is counted.
pub fn describe() {
    for &(name, kind, label, meaning) in METRICS {
        match kind {
            Counter => describe_counter!(name, meaning),
            Gauge => describe_gauge!(name, meaning),
            // It shows with its first sample: an empty one has nothing to tell.
            Histogram => describe_histogram!(name, meaning),
        }
        match (kind, label) {
            (Counter, None) => counter!(name).absolute(0),
            (Counter, Some((label, values))) => {
                values.iter().for_each(|value| counter!(name, label => *value).absolute(0));
            }
            (Gauge, None) => gauge!(name).set(0.0),
            (Gauge, Some((label, values))) => {
                values.iter().for_each(|value| gauge!(name, label => *value).set(0.0));
            }
            (Histogram, _) => {}
        }
    }
}
