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
