//! The open feeds, for an operator: who follows what, and which versions each was told last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::identity::{Version, WorkloadUpdate};
use spiffe_bridge::node::{Caller, Origin, Session};

use super::manner::Manner;
use super::method::Stream;
use super::x509::{bundles, name_of};

/// One feed, in the form of an SDS stream's status: the CLI lists both.
#[derive(Debug, Clone, serde::Serialize)]
pub struct FeedStatus {
    /// Number of the feed, counted from the start of the server.
    pub stream: u64,
    /// Number of its connection.
    pub connection: u64,
    /// The process that it is about.
    pub pid: Option<u32>,
    /// That process's user.
    pub uid: Option<u32>,
    /// The broker that asks on its behalf, by its SPIFFE ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// `workload_api` or `broker_api`.
    pub protocol: &'static str,
    /// What is followed: `x509_svid`, `x509_bundles`, …
    pub method: &'static str,
    /// When it was opened.
    pub since: Timestamp,
    /// What was told last: SVIDs by their SPIFFE IDs, bundles by those of their trust domains.
    pub names: Vec<ToldStatus>,
}

/// One SVID or bundle of the last message.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ToldStatus {
    /// Whose it is.
    pub name: String,
    /// Always `assumed`: these APIs have no acknowledgement.
    pub state: &'static str,
    /// Which it is.
    pub version: Version,
    /// When the message was sent.
    pub sent_at: Timestamp,
}

/// All open feeds, of both APIs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feeds(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    clock: Clock,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    opened: u64,
    feeds: BTreeMap<u64, Weak<OpenFeed>>,
}

/// A feed, for as long as it lives; it leaves the registry when dropped.
pub(super) struct OpenFeed {
    number: u64,
    registry: Arc<Registry>,
    manner: &'static Manner,
    method: Stream,
    caller: Arc<Caller>,
    broker: Option<Arc<Caller>>,
    since: Timestamp,
    /// The very update that the client holds: it costs no copy.
    told: Mutex<Option<(Arc<WorkloadUpdate>, Timestamp)>>,
}

impl Feeds {
    /// None yet, by that clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Registry { clock, live: Mutex::default() }))
    }

    /// Each feed's status, by number. Locks each for its own copy only.
    #[must_use]
    pub fn snapshot(&self) -> Vec<FeedStatus> {
        let feeds: Vec<_> = self.0.live().feeds.values().filter_map(Weak::upgrade).collect();
        feeds.iter().map(|feed| feed.status()).collect()
    }

    pub(super) fn open(
        &self,
        manner: &'static Manner,
        method: Stream,
        session: &Session,
        broker: Option<&Session>,
    ) -> Arc<OpenFeed> {
        let mut live = self.0.live();
        live.opened += 1;
        let feed = Arc::new(OpenFeed {
            number: live.opened,
            registry: self.0.clone(),
            manner,
            method,
            caller: session.caller().clone(),
            broker: broker.map(|broker| broker.caller().clone()),
            since: self.0.clock.now(),
            told: Mutex::default(),
        });
        live.feeds.insert(feed.number, Arc::downgrade(&feed));
        feed
    }
}

impl Registry {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenFeed {
    /// What is told now.
    pub(super) fn tell(&self, update: Arc<WorkloadUpdate>) {
        let now = self.registry.clock.now();
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((update, now));
    }

    /// What was told holds of this too: what it came in is let go, with the keys of SVIDs that were renewed since.
    pub(super) fn still(&self, update: Arc<WorkloadUpdate>) {
        if let Some((told, _)) = &mut *self.told.lock().unwrap_or_else(PoisonError::into_inner) {
            *told = update;
        }
    }

    fn status(&self) -> FeedStatus {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let certificate = self.broker.as_ref().and_then(|broker| match &broker.origin {
            Origin::Broker { id, .. } => Some(id.to_string()),
            _ => None,
        });
        FeedStatus {
            stream: self.number,
            connection: self.caller.connection,
            pid: self.caller.pid(),
            uid: self.caller.uid(),
            certificate,
            protocol: self.manner.protocol,
            method: self.method.label(),
            since: self.since,
            names: told.map(|(update, at)| names(self.method, &update, at)).unwrap_or_default(),
        }
    }
}

impl Drop for OpenFeed {
    fn drop(&mut self) {
        self.registry.live().feeds.remove(&self.number);
    }
}

fn names(method: Stream, update: &WorkloadUpdate, sent_at: Timestamp) -> Vec<ToldStatus> {
    let row = |name, version| ToldStatus { name, state: "assumed", version, sent_at };
    let svids = update.identities.iter().map(|identity| &identity.svid);
    let svids = svids.map(|svid| row(svid.spiffe_id.to_string(), svid.version));
    let wits = update.wit_svids.values().map(|svid| row(svid.spiffe_id.to_string(), svid.version));
    let bundles = bundles(update).map(|(_, bundle)| row(name_of(bundle), bundle.version));
    match method {
        Stream::X509Svids => svids.chain(bundles).collect(),
        Stream::WitSvids => wits.collect(),
        Stream::X509Bundles | Stream::JwtBundles | Stream::WitBundles => bundles.collect(),
    }
}
