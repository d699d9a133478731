//! What the admin API says, for the server that writes it and the CLI that reads it. Names are stable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not everything is served yet.
    Starting,
    /// Everything is served.
    Ready,
    /// SIGTERM came.
    Draining,
}

/// How the server is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// Its trust domain.
    pub trust_domain: String,
    /// Where it is in its life.
    pub state: State,
    /// What it still waits for while it starts.
    #[serde(default)]
    pub pending: Vec<String>,
    /// What an operator should look at; empty if all is well.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Facts by area, such as `authority` → `root_not_after`: objects of plain values.
    #[serde(default)]
    pub details: BTreeMap<String, Value>,
}

/// One thing that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// The entries in force, and what kept others out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Entries {
    /// Each an object.
    pub entries: Vec<Value>,
    /// Documents that could not be used: objects with `file` and `problem`.
    pub problems: Vec<Value>,
}

/// The trust bundle of our own domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Whose roots these are.
    pub trust_domain: String,
    /// `<revision>-<content hash>`.
    pub version: String,
    /// The certificates.
    pub pem: String,
    /// All of it, keys of tokens too, as a bundle document. SPIFFE Trust Domain and Bundle §4.
    #[serde(default)]
    pub spiffe: Value,
}

/// Asks for the entry documents to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rescan {
    /// Also withdraws what the brake on mass removal would hold back.
    pub prune: bool,
}

/// What a rescan did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rescanned {
    /// Entries that are new.
    pub added: u64,
    /// Entries that changed.
    pub changed: u64,
    /// Entries that were withdrawn.
    pub removed: u64,
    /// Entries that would have been withdrawn, but for the brake.
    pub held_back: u64,
    /// Documents that could not be used: objects with `file` and `problem`.
    pub problems: Vec<Value>,
}

/// Asks who does not hold a version of a name yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotHolding {
    /// The name, as clients spell it.
    pub name: String,
    /// A revision, or a whole version; none for the newest.
    #[serde(default)]
    pub version: Option<String>,
    /// Whether the client's word is enough.
    #[serde(default)]
    pub acknowledged: bool,
}

/// Who does not hold it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holders {
    /// The name.
    pub name: String,
    /// Which version was looked for: a revision (this or a later one) or a whole version; none if of each member the one
    /// that it was sent last.
    pub wanted: Option<String>,
    /// Members of the roster who have the name, also those that are away.
    pub members: usize,
    /// Those of them who do not hold it: objects with `holder`, `why` and what is known of them.
    pub missing: Vec<Value>,
    /// Clients that found no place in the roster: the answer is incomplete.
    pub turned_away: u64,
    /// Open streams of the Workload and Broker APIs that follow X.509: no members, as these APIs have no acknowledgement.
    #[serde(default)]
    pub feeds: usize,
    /// Whether every member is known to hold it. Never true while nobody has the name: 0 of 0 is unknown.
    pub complete: bool,
}

/// Asks for a member of the roster to be let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// The member, as `holder` names it in [`Holders::missing`].
    pub holder: String,
}

/// A member that was let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The member.
    pub holder: String,
    /// The SPIFFE IDs that it had.
    pub identities: Vec<String>,
    /// The end of the last certificate that it was given: until then whoever has its key can use it.
    pub not_after: Option<String>,
}

/// Asks for records of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trail {
    /// From which on, the oldest first; the last ones if there is none.
    pub from: Option<u64>,
    /// Only records of this kind, such as `svid.issued`, or of all that begin with it and a dot.
    pub kind: Option<String>,
    /// How many at the most.
    pub limit: usize,
}

/// Records of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// Objects with `sequence`, `time`, `kind`, `subject` and `detail`, the oldest first.
    pub records: Vec<Value>,
    /// From where on was looked.
    pub first: u64,
    /// From where to go on.
    pub next: u64,
    /// The number behind the last record that there is.
    pub end: u64,
}

/// What a process is to the server: which selectors it has, and what they lead to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Explained {
    /// The process, as the server's PID namespace numbers it.
    pub pid: u32,
    /// What it has. Empty if it cannot be attested.
    pub selectors: Vec<String>,
    /// The same by who gave it.
    #[serde(default)]
    pub attestors: Vec<Attested>,
    /// What could not be seen of it, and why.
    pub unseen: Vec<String>,
    /// Entries all of whose selectors it has: it gets these identities.
    pub matches: Vec<Matching>,
    /// How many there are; `matches` may be cut short.
    pub matches_total: usize,
    /// Entries some of whose selectors it has, the nearest first; if it matches none and there are no such, those of which
    /// it has another value of each.
    pub near: Vec<Near>,
    /// How many there are; `near` is cut short.
    pub near_total: usize,
    /// How many entries are in force.
    #[serde(default)]
    pub entries_total: usize,
}

/// What one attestor says of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attested {
    /// Who, as its selectors begin: `unix`, `docker`, `systemd`, `k8s`.
    pub attestor: String,
    /// What came of asking.
    pub state: AttestorState,
    /// What it gave.
    pub selectors: Vec<String>,
    /// Why it gave nothing, or not all.
    pub why: Vec<String>,
}

/// What came of asking an attestor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttestorState {
    /// It gave all that it has.
    Answered,
    /// It has nothing of such a process, which is an answer.
    Nothing,
    /// Part of it could not be seen.
    Partly,
    /// It did not answer. Unknown, not no.
    Failed,
    /// It did not answer in time. Unknown, not no.
    Late,
    /// It does not know the process, and may just be late.
    Unknown,
    /// What is claimed of the process does not hold.
    Refused,
}

/// An entry that gives a process its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matching {
    /// The identity.
    pub spiffe_id: String,
    /// What the entry asks for.
    pub selectors: Vec<String>,
    /// The file that it stands in.
    pub source: String,
}

/// An entry that would give it, but for the selectors that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Near {
    /// The identity.
    pub spiffe_id: String,
    /// What the entry asks for and the process lacks.
    pub missing: Vec<String>,
    /// The same, each with the reason.
    #[serde(default)]
    pub why_not: Vec<WhyNot>,
    /// What the process has in place of that: of the same kind, with another value.
    pub instead: Vec<String>,
    /// What the entry asks for and the process has.
    pub has: Vec<String>,
    /// The file that it stands in.
    pub source: String,
}

/// Why a process lacks a selector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyNot {
    /// What the entry asks for.
    pub selector: String,
    /// What is in the way of it.
    pub reason: String,
}
