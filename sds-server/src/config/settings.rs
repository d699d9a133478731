//! What the server runs with: file, flags and defaults put together and checked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};
use spiffe_bridge::identity::{TrustDomain, parse_trust_domain};

use super::{Attestors, Authority, Environment, File, Renewal, Roster};
use crate::{broker_api, endpoint, sds, telemetry, workload_api};

pub(super) const ADMIN_SOCKET: &str = "admin.sock";
/// sun_path, without its end. unix(7)
pub(super) const MAX_SOCKET_BYTES: usize = 107;

/// The keys that are flags too. A flag wins over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented as keys of the file")]
pub struct Flags {
    pub trust_domain: Option<String>,
    pub data: Option<PathBuf>,
    pub entries: Option<PathBuf>,
    pub socket: Option<PathBuf>,
}

/// The effective configuration. Every value has been checked; every path is absolute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// The trust domain that is served.
    #[serde(serialize_with = "as_text")]
    pub trust_domain: TrustDomain,
    /// The directory of keys, store and admin socket.
    pub data: PathBuf,
    /// The directory of entry documents.
    pub entries: PathBuf,
    /// The API socket.
    pub socket: PathBuf,
    /// How long certificates live.
    pub authority: Authority,
    /// When SVIDs are renewed.
    pub renewal: Renewal,
    /// Who is asked about callers.
    pub attestors: Attestors,
    /// Who counts as a holder.
    pub roster: Roster,
    /// What callers may take.
    pub limits: endpoint::Config,
    /// The door to the network, for callers with certificates.
    pub remote: endpoint::tls::Config,
    /// What SDS clients may make the server keep.
    pub sds: sds::Limits,
    /// What clients of the Workload API are served, and may make the server keep.
    pub workload_api: workload_api::Config,
    /// The socket for brokers, which act for workloads.
    pub broker: broker_api::Config,
    /// What is logged, and how.
    pub log: telemetry::logs::Config,
    /// Where metrics can be read.
    pub metrics: telemetry::metrics::Config,
}

/// One thing that is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `authority.leaf_lifetime`.
    pub key: &'static str,
    /// What is wrong with its value, and what to do.
    pub advice: String,
}

/// All that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Problem { key, advice }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{key}: {advice}")?;
        }
        Ok(())
    }
}

impl Settings {
    /// Flags over file over defaults, checked.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn resolve(mut file: File, flags: Flags, environment: &Environment) -> Result<Self, Problems> {
        let mut found = Vec::new();
        let trust_domain = trust_domain(flags.trust_domain.or(file.trust_domain), &mut found);
        let data = path("data", flags.data.or(file.data).or_else(|| environment.data()), &mut found);
        let entries = flags.entries.or(file.entries).or_else(|| Some(data.as_ref()?.join("entries")));
        // Without a data directory there is no default for the entries either: one problem, not two.
        let entries = entries.and_then(|entries| path("entries", Some(entries), &mut found));
        let socket =
            path("socket", flags.socket.or(file.socket).or_else(|| environment.socket()), &mut found);
        if socket.as_ref().is_some_and(|socket| socket.as_os_str().len() > MAX_SOCKET_BYTES) {
            found.push(("socket", "a socket's path has at most 107 bytes: choose a shorter one".to_owned()));
        }
        if data.as_ref().is_some_and(|data| data.join(ADMIN_SOCKET).as_os_str().len() > MAX_SOCKET_BYTES) {
            let advice =
                "the admin socket in it would have a path of more than 107 bytes: choose a shorter one";
            found.push(("data", advice.to_owned()));
        }
        file.authority.problems(&mut found);
        file.renewal.problems(&mut found);
        file.attestors.problems(&mut found);
        limits(&file.limits, &mut found);
        super::remote::settle(&mut file.remote, &mut found);
        super::broker::settle(&mut file.broker, trust_domain.as_ref(), socket.as_deref(), &mut found);
        sds_limits(&file.sds, &mut found);
        if file.workload_api.streams < 2 {
            let advice = "half of them is the most that one user takes: give at least 2";
            found.push(("workload_api.streams", advice.to_owned()));
        }
        // WIT-SVID §3.4 and the libraries of the field: a minute or two at most.
        if file.workload_api.jwt_leeway > Duration::from_secs(120) {
            let advice = "a token would outlive its end by more than 2m: set the clocks instead";
            found.push(("workload_api.jwt_leeway", advice.to_owned()));
        }
        if let Err(error) = file.log.env_filter() {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            found.push(("log.filter", without_key("log.filter", &format!("{error}: {source}"))));
        }
        if let Some(address) = file.metrics.listen.filter(|address| !address.ip().is_loopback()) {
            let advice =
                format!("{address} is not a loopback address: it has no authentication, use 127.0.0.1");
            found.push(("metrics.listen", advice));
        }
        match (trust_domain, data, entries, socket) {
            (Some(trust_domain), Some(data), Some(entries), Some(socket)) if found.is_empty() => Ok(Self {
                trust_domain,
                data,
                entries,
                socket,
                authority: file.authority,
                renewal: file.renewal,
                attestors: file.attestors,
                roster: file.roster,
                limits: file.limits,
                remote: file.remote,
                sds: file.sds,
                workload_api: file.workload_api,
                broker: file.broker,
                log: file.log,
                metrics: file.metrics,
            }),
            _ => {
                let problem = |(key, advice)| Problem { key, advice };
                Err(Problems(found.into_iter().map(problem).collect()))
            }
        }
    }

    /// What the library's authority is told.
    #[must_use]
    pub fn authority(&self) -> spiffe_bridge::authority::Config {
        let mut config = spiffe_bridge::authority::Config::new(self.trust_domain.clone());
        config.key_type = self.authority.key_type;
        config.hierarchy = self.authority.hierarchy;
        config.root_lifetime = self.authority.root_lifetime;
        config.leaf_lifetime = self.authority.leaf_lifetime;
        config.longest_leaf_lifetime =
            [self.authority.leaf_lifetime, self.authority.jwt_lifetime, self.authority.wit_lifetime]
                .into_iter()
                .fold(config.longest_leaf_lifetime, Duration::max);
        config.backdate = self.authority.backdate;
        config.jwt_algorithm = self.authority.jwt_algorithm;
        config.jwt_lifetime = self.authority.jwt_lifetime;
        config.jwt_audiences = self.authority.jwt_audiences;
        config.wit_algorithm = self.authority.wit_algorithm;
        config.wit_lifetime = self.authority.wit_lifetime;
        config
    }

    /// What the library's node is told.
    #[must_use]
    pub fn renewal(&self) -> spiffe_bridge::node::Config {
        let Renewal { at, spread } = self.renewal;
        spiffe_bridge::node::Config { at, spread, ..Default::default() }
    }

    /// What the library's attestors are told.
    #[must_use]
    pub fn attestors(&self) -> spiffe_bridge::attest::Config {
        self.attestors.library()
    }

    /// What the library's roster is told.
    #[must_use]
    pub fn roster(&self) -> spiffe_bridge::roster::Config {
        // Clocks that are late by the backdate are provided for: so long a certificate may be used after its end.
        spiffe_bridge::roster::Config {
            verifier_lease: self.roster.verifier_lease,
            skew: self.authority.backdate,
            ..Default::default()
        }
    }

    /// The socket that the CLI asks.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.data.join(ADMIN_SOCKET)
    }
}

pub(super) type Found = Vec<(&'static str, String)>;

/// What the module of a key says of it often begins with the key.
pub(super) fn without_key(key: &str, advice: &str) -> String {
    let rest = advice.strip_prefix(key).map(|rest| rest.trim_start_matches([':', ' ']));
    rest.unwrap_or(advice).to_owned()
}

fn trust_domain(text: Option<String>, found: &mut Found) -> Option<TrustDomain> {
    let Some(text) = text else {
        let advice = "it has no default: give --trust-domain, or the key, such as example.org";
        found.push(("trust_domain", advice.to_owned()));
        return None;
    };
    parse_trust_domain(&text).map_err(|error| found.push(("trust_domain", error.to_string()))).ok()
}

fn path(key: &'static str, path: Option<PathBuf>, found: &mut Found) -> Option<PathBuf> {
    let Some(path) = path.filter(|path| path != Path::new("")) else {
        let advice = "there is no default here ($HOME or $XDG_RUNTIME_DIR is not set): give it a path";
        found.push((key, advice.to_owned()));
        return None;
    };
    std::path::absolute(&path).map_err(|error| found.push((key, format!("{path:?}: {error}")))).ok()
}

fn limits(limits: &endpoint::Config, found: &mut Found) {
    let counts = [
        ("limits.connections", limits.connections),
        ("limits.connections_per_uid", limits.connections_per_uid),
        ("limits.streams_per_connection", limits.streams_per_connection),
    ];
    for (key, _) in counts.into_iter().filter(|(_, count)| *count == 0) {
        found.push((key, "0 would serve nobody: give at least 1".to_owned()));
    }
    // HTTP/2 sends a few hundred bytes of headers with every gRPC request.
    if limits.header_list_bytes < 1024 {
        found.push(("limits.header_list_bytes", "gRPC needs at least 1024".to_owned()));
    }
    let times = [
        ("limits.first_request", limits.first_request),
        ("limits.keepalive_interval", limits.keepalive_interval),
        ("limits.keepalive_timeout", limits.keepalive_timeout),
    ];
    for (key, _) in times.into_iter().filter(|(_, time)| time.as_millis() < 10) {
        found.push((key, "it must be at least 10ms".to_owned()));
    }
}

/// Some thousands of names: one busy Envoy's.
const MIN_NAME_BYTES: usize = 1 << 20;

fn sds_limits(limits: &sds::Limits, found: &mut Found) {
    let sds::Limits { streams, names, name_bytes, message_bytes, unfinished_bytes } = *limits;
    for (key, _) in
        [("sds.streams", streams), ("sds.names", names)].into_iter().filter(|(_, count)| *count == 0)
    {
        found.push((key, "0 would serve nobody: give at least 1".to_owned()));
    }
    if name_bytes < MIN_NAME_BYTES {
        let advice =
            format!("half of it is the most that one user takes: give at least {MIN_NAME_BYTES} (1 MiB)");
        found.push(("sds.name_bytes", advice));
    }
    // Envoy's first request has 61 KB of node; a request of 64 MB is no request.
    if !((128 << 10)..=(64 << 20)).contains(&message_bytes) {
        found.push((
            "sds.message_bytes",
            "it must be between 131072 (128 KiB) and 67108864 (64 MiB)".to_owned(),
        ));
    }
    if unfinished_bytes / 2 < message_bytes {
        let advice = "half of it is the most that one user takes, and must hold one message: give at least 2 x sds.message_bytes";
        found.push(("sds.unfinished_bytes", advice.to_owned()));
    }
}

fn as_text<S: Serializer>(domain: &TrustDomain, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(domain.as_str())
}
