//! Who may act for workloads, where, and what brokers may make the server keep.

use std::path::PathBuf;

/// The socket for brokers. There is none unless it is named.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The socket.
    pub socket: Option<PathBuf>,
    /// The group, by its number, that may connect to it beside the server's user; else the server's group.
    pub group: Option<u32>,
    /// The SPIFFE IDs of the brokers, of the server's own trust domain. Nobody else is answered.
    pub allow: Vec<String>,
    /// DNS names in the certificate that the server shows on it, beside its SPIFFE ID: for clients that look for a name.
    pub dns_names: Vec<String>,
    /// Open calls of all brokers; one has at most half of them. Each also takes a file, for the process that it is
    /// about, and counts for that among `limits.connections_per_uid`.
    pub streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { socket: None, group: None, allow: Vec::new(), dns_names: Vec::new(), streams: 16_384 }
    }
}
