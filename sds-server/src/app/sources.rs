//! What the admin API tells of the server: each answer put together from the parts' own status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use spiffe_bridge::attest::{Attestor, ServiceStatus};
use spiffe_bridge::audit::Log;
use spiffe_bridge::authority::Authority;
use spiffe_bridge::clock::{Clock, duration};
use spiffe_bridge::jose;
use spiffe_bridge::node::Node;
use spiffe_bridge::registration::directory::{HeldBecause, Problem};
use spiffe_bridge::registration::{DEFAULT_PROFILE, DirectoryHandle, Entry, EntryIndex, Terms, document};
use spiffe_bridge::roster::Roster;
use spiffe_bridge::x509::crl;
use tokio::sync::watch;

use super::broker::BrokerStatus;
use super::explain::explain;
use super::remote::RemoteStatus;
use super::trail;
use crate::admin::{Bundle, Entries, Explained, Finding, Rescan, Rescanned, Sources, State, Status};
use crate::config::Settings;
use crate::endpoint::uds::Standing;
use crate::receipts::Desk;
use crate::runtime::{Drain, Readiness};
use crate::sds::StreamRegistry;
use crate::sds::pem;
use crate::telemetry::metrics::Metrics;
use crate::workload_api::Feeds;

/// The most withheld secrets that are told: with more, their cause is one.
const MAX_WITHHELD: usize = 20;
/// From when on the end of a CRL is told: as the alert does.
const CRL_ENDS_SOON: Duration = Duration::from_secs(6 * 3600);

/// When others are to ask for the bundle again, as its document says. SPIFFE Trust Domain and Bundle §4.1.2.
const REFRESH_HINT: Duration = Duration::from_mins(5);

/// The parts that know something.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) authority: Authority,
    pub(super) node: Node,
    pub(super) index: watch::Receiver<Arc<EntryIndex>>,
    pub(super) entries: DirectoryHandle,
    pub(super) streams: StreamRegistry,
    pub(super) roster: Roster,
    pub(super) desk: Desk,
    pub(super) log: Log,
    pub(super) attestor: Arc<Attestor>,
    /// The API socket's file.
    pub(super) socket: Standing,
    /// The door to the network, if it is open.
    pub(super) remote: Option<RemoteStatus>,
    /// The socket for brokers, if there is one.
    pub(super) broker: Option<BrokerStatus>,
    /// The open streams of the Workload API and the Broker API.
    pub(super) feeds: Feeds,
}

pub(super) fn of(parts: &Parts, metrics: &Metrics, readiness: &Readiness, drain: &Drain) -> Sources {
    let (status, entries, bundle, rescan) = (parts.clone(), parts.clone(), parts.clone(), parts.clone());
    let (explain, log) = (parts.clone(), parts.log.clone());
    let (streams, missing, forget) = (parts.clone(), parts.clone(), parts.clone());
    let (drain, waiting) = (drain.clone(), readiness.clone());
    Sources {
        status: Arc::new(move || status.status(&waiting, &drain)),
        streams: Arc::new(move || streams.streams()),
        missing: Arc::new(move |question| missing.missing(&question)),
        forget: Arc::new(move |request| forget.clone().forget(request).boxed()),
        entries: Arc::new(move || entries.entries()),
        bundle: Arc::new(move || Some(bundle.bundle())),
        rescan: Arc::new(move |request| rescan.clone().rescan(request).boxed()),
        explain: Arc::new(move |pid| explain.clone().explain(pid).boxed()),
        audit: Arc::new(move |trail| trail::read(log.clone(), trail).boxed()),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
    }
}

impl Parts {
    fn status(&self, readiness: &Readiness, drain: &Drain) -> Status {
        let pending: Vec<String> = readiness.pending().iter().map(ToString::to_string).collect();
        let state = match pending.is_empty() {
            _ if drain.has_begun() => State::Draining,
            true => State::Ready,
            false => State::Starting,
        };
        let directory = self.entries.status().borrow().clone();
        let mut details = BTreeMap::from([
            ("authority".to_owned(), value(self.authority.status())),
            ("node".to_owned(), value(&*self.node.status())),
            ("entries".to_owned(), value(&*directory)),
            ("trust_domains".to_owned(), json!({ "others": self.index.borrow().federated().len() })),
            ("attestors".to_owned(), json!(self.attestors())),
            ("profiles".to_owned(), self.profiles()),
            ("roster".to_owned(), value(self.roster.status())),
            ("streams".to_owned(), json!({ "open": self.streams.count() })),
            (
                "sealing".to_owned(),
                json!({
                    "state": "unsealed",
                    "reason": "the sealing key lies beside the data: it protects a copied store, not a copied directory",
                }),
            ),
        ]);
        if let Some(RemoteStatus { address, client_ca }) = &self.remote {
            let remote = json!({ "address": address, "client_cas": client_ca.count() });
            details.insert("remote".to_owned(), remote);
        }
        if let Some(BrokerStatus { socket, allowed }) = &self.broker {
            details.insert("broker".to_owned(), json!({ "socket": socket, "allowed": allowed }));
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.settings.trust_domain.as_str().to_owned(),
            state,
            pending,
            findings: self.findings(),
            details,
        }
    }

    /// Every profile, the default one too, with what it comes to.
    fn profiles(&self) -> Value {
        let index = self.index.borrow().clone();
        let declared = index.profiles().map(|profile| (profile.name.as_str(), profile.terms));
        let terms: BTreeMap<&str, Terms> =
            std::iter::once((DEFAULT_PROFILE, Terms::default())).chain(declared).collect();
        let told = |(name, terms): (&str, Terms)| {
            let lifetime = terms.lifetime.unwrap_or(self.settings.authority.leaf_lifetime);
            (name.to_owned(), json!({ "key_type": terms.key_type, "lifetime": duration::format(lifetime) }))
        };
        terms.into_iter().map(told).collect()
    }

    /// What an operator should look at, most urgent first.
    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find =
            |what: String, advice: &str| findings.push(Finding { what, advice: advice.to_owned() });
        if let Some(displaced) = self.socket.look() {
            find(
                format!("new callers do not reach this server by {:?}: {displaced}", self.socket.path()),
                "see who did it (only root and the server's user can), then start the server anew: \
                 docs/operations.md, \"The socket was replaced\"",
            );
        }
        let authority = self.authority.status();
        if let Some(error) = &authority.last_error {
            find(
                format!("signing fails: {error}"),
                "see the log; what was issued stays valid until it expires",
            );
        }
        for identity in &self.node.status().failing {
            let error = identity.last_error.as_deref().unwrap_or("unknown");
            find(
                format!("{} cannot be renewed ({} tries): {error}", identity.spiffe_id, identity.failures),
                "it is tried again by itself; what is valid stays in use",
            );
        }
        for status in self.attestor.services() {
            let Some(error) = status.error else { continue };
            find(
                format!(
                    "the attestor {} fails ({} times): {error}",
                    status.service.as_str(),
                    status.failures
                ),
                "callers go on without its selectors, or with those it gave before; it is asked again by itself",
            );
        }
        if let Some(problem) = self.remote.as_ref().and_then(|remote| remote.client_ca.problem()) {
            find(problem, "what was read before stays in force; the file is looked at again by itself");
        }
        let now = Clock::system().now();
        for bundle in self.index.borrow().federated() {
            if bundle.roots.is_empty() {
                find(
                    format!("the bundle of {} has no X.509 root: nobody of it gets in", bundle.trust_domain),
                    "if its operator did not mean that, ask for the bundle anew",
                );
            }
            let Some(end) = crl::first_end(bundle).filter(|end| *end < now + CRL_ENDS_SOON) else { continue };
            let how = if end < now { "ran out: nobody of it gets in" } else { "runs out soon" };
            find(
                format!("a CRL of {}, good until {end}, {how}", bundle.trust_domain),
                "put its current one under crls: docs/operations.md, \"A CRL runs out\"",
            );
        }
        if authority.root_ends_soon {
            find(
                format!("the root's life ends at {}", authority.root_not_after),
                "plan its replacement: docs/operations.md, \"The root comes to its end\"",
            );
        }
        for ((name, error), streams) in self.streams.withheld().into_iter().take(MAX_WITHHELD) {
            find(
                format!("{name} is not sent to {streams} streams: {error}"),
                "what was sent before stays in use: docs/operations.md, \"A secret is withheld\"",
            );
        }
        let directory = self.entries.status().borrow().clone();
        for problem in &directory.problems {
            find(
                format!("{}: {}", place_of(problem), problem.message),
                "what was accepted of it before stays in force: a file is read again as soon as it is written, a directory \
                 that was away within half a minute, both at once by countersign entries reload",
            );
        }
        if let Some(path) = &directory.open_to_all {
            find(
                format!("anybody may write to {path}: whoever does gives himself identities"),
                "let only those write who may give identities: chmod o-w",
            );
        }
        // A directory that cannot be read is among the problems, and no word of the operator prunes it.
        let held = directory.held_back.as_ref().filter(|h| h.reason != HeldBecause::DirectoryUnreadable);
        if let Some(held) = held {
            find(
                format!("a change that would withdraw {} entries is held back", held.withdrawn),
                "if it is meant: countersign entries reload --prune",
            );
        }
        findings
    }

    /// Of each service that was asked so far, how it stands.
    fn attestors(&self) -> BTreeMap<&'static str, Value> {
        let said = |status: &ServiceStatus| match &status.error {
            None => "well".to_owned(),
            Some(error) => format!("failing for {} s: {error}", status.failing_for),
        };
        self.attestor.services().iter().map(|status| (status.service.as_str(), json!(said(status)))).collect()
    }

    fn entries(&self) -> Entries {
        let problems = self.entries.status().borrow().problems.iter().map(problem).collect();
        let index = self.index.borrow().clone();
        let described = |entry: &Arc<Entry>| {
            let mut described = value(entry);
            if let Some(fields) = described.as_object_mut() {
                // What its profile comes to.
                fields.insert("key_type".to_owned(), json!(index.terms(entry).key_type));
            }
            described
        };
        Entries { entries: index.entries().map(described).collect(), problems }
    }

    fn bundle(&self) -> Bundle {
        let bundle = self.authority.bundle().borrow().clone();
        let pem = pem::write(bundle.roots.iter().map(AsRef::as_ref), "CERTIFICATE");
        let trust_domain = bundle.trust_domain.as_str().to_owned();
        let document = jose::document::bundle(&bundle, bundle.version.revision.0, REFRESH_HINT);
        let spiffe = serde_json::from_str(&document).unwrap_or_default();
        Bundle { trust_domain, version: bundle.version.to_string(), pem, spiffe }
    }

    async fn explain(self, pid: u32) -> Result<Explained, String> {
        let index = self.index.borrow().clone();
        explain(self.attestor, &index, pid).await
    }

    async fn rescan(self, request: Rescan) -> Result<Rescanned, String> {
        let before = self.index.borrow().clone();
        let scanned = if request.prune { self.entries.prune().await } else { self.entries.rescan().await };
        let status = scanned.ok_or("the server is shutting down")?;
        // The index follows the store; its revision tells when it has come as far.
        let mut index = self.index.clone();
        let caught_up = index.wait_for(|index| index.revision() >= status.revision);
        let after = match tokio::time::timeout(std::time::Duration::from_secs(5), caught_up).await {
            Ok(Ok(index)) => index.clone(),
            _ => return Err("the index does not follow the store: see the log".to_owned()),
        };
        let ids = |index: &EntryIndex| -> BTreeMap<String, Value> {
            index.entries().map(|entry| (entry.id.to_string(), value(entry))).collect()
        };
        let (before, after) = (ids(&before), ids(&after));
        let changed =
            after.iter().filter(|(id, entry)| before.get(*id).is_some_and(|old| old != *entry)).count();
        Ok(Rescanned {
            added: after.keys().filter(|id| !before.contains_key(*id)).count() as u64,
            changed: changed as u64,
            removed: before.keys().filter(|id| !after.contains_key(*id)).count() as u64,
            held_back: status.held_back.as_ref().map_or(0, |held| held.withdrawn as u64),
            problems: status.problems.iter().map(problem).collect(),
        })
    }
}

fn place_of(problem: &Problem) -> String {
    document::place(&problem.file, problem.line, problem.column)
}

fn problem(problem: &Problem) -> Value {
    json!({
        "file": place_of(problem),
        "problem": problem.message,
        "since": problem.since,
    })
}

pub(super) fn value(status: impl Serialize) -> Value {
    serde_json::to_value(status).unwrap_or(Value::Null)
}
