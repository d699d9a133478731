//! The live streams, and a copy of where each of their names stands.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::Version;
use spiffe_bridge::node::{Account, Caller, Origin, Session};
use spiffe_bridge::roster::{NameRow, Standing};

use super::nack::{Explained, Reason};
use super::proxy::{Proxies, Proxy};
use super::request::Protocol;
use super::slot::Slot;
use super::subscription::Subscription;

/// One stream, as the CLI and the admin API show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StreamStatus {
    /// Number of the stream, counted from the start of the server.
    pub stream: u64,
    /// Number of its connection.
    pub connection: u64,
    /// The caller's process, if it is one of this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The caller's user, if it is a process of this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Where a remote caller connected from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// What a remote caller's certificate is known by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Who the roster knows the caller by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Whether the caller tells its counters: else nothing of it is ever proved.
    pub statistics: bool,
    /// Why what it tells of itself is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics_unused: Option<&'static str>,
    /// How it speaks.
    pub protocol: Protocol,
    /// What it says of itself: node id.
    pub node: Option<String>,
    /// What it says of itself: cluster.
    pub cluster: Option<String>,
    /// When it was opened.
    pub since: Timestamp,
    /// Its subscriptions, by name.
    pub names: Vec<NameStatus>,
}

/// Where a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameState {
    /// Sent, not answered.
    Sent,
    /// The client said that it took the version. Not that it is applied (envoy-sds.md §0.2).
    Acknowledged,
    /// The client refused the version.
    Refused,
    /// Some of its places use it and some do not, or it cannot be told.
    PossiblyApplied,
    /// Its counters prove that it uses the version everywhere.
    ProvedApplied,
    /// Nothing to send.
    NotAvailable,
    /// There is something, but it would do harm.
    Withheld,
}

/// One subscription.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NameStatus {
    /// As the client spells it.
    pub name: String,
    /// Where the newest version stands.
    pub state: NameState,
    /// The version sent last.
    pub version: Option<Version>,
    /// When it was sent.
    pub sent_at: Option<Timestamp>,
    /// The version acknowledged last.
    pub acked_version: Option<Version>,
    /// When it was acknowledged.
    pub acked_at: Option<Timestamp>,
    /// From its push to its ACK.
    pub took_ms: Option<u64>,
    /// Why the newest content is not sent; what was sent before stays in use.
    pub withheld: Option<String>,
    /// The last refusal.
    pub nack: Option<NackStatus>,
}

/// One refusal.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NackStatus {
    /// When it came.
    pub at: Timestamp,
    /// What was refused.
    pub version: Version,
    /// Why, scrubbed.
    pub reason: Reason,
    /// What that means, and what to do.
    pub explained: Explained,
}

/// All live streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StreamRegistry(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    proxies: Proxies,
    live: Mutex<Live>,
    opened: AtomicU64,
}

#[derive(Debug, Default)]
struct Live {
    streams: BTreeMap<u64, Weak<LiveStream>>,
    by_account: HashMap<Account, usize>,
}

/// A stream, for as long as it lives; it leaves the registry when dropped.
#[derive(Debug)]
pub(super) struct LiveStream {
    pub(super) id: u64,
    pub(super) caller: Arc<Caller>,
    since: Timestamp,
    engine: Mutex<Subscription>,
    registry: Arc<Registry>,
    pub(super) session: Session,
    proxy: Option<Arc<Proxy>>,
}

impl StreamRegistry {
    /// A registry that enters the streams of each client with it.
    #[must_use]
    pub fn of(proxies: Proxies) -> Self {
        Self(Arc::new(Registry { proxies, ..Registry::default() }))
    }

    /// The clients.
    #[must_use]
    pub fn proxies(&self) -> &Proxies {
        &self.0.proxies
    }

    /// How many streams are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.live().streams.len()
    }

    /// A copy of every stream's status, by number. Locks each stream for its own copy only.
    #[must_use]
    pub fn snapshot(&self) -> Vec<StreamStatus> {
        let streams: Vec<_> = self.0.live().streams.values().filter_map(Weak::upgrade).collect();
        streams.iter().map(|stream| stream.status()).collect()
    }

    /// What is not sent because it would do harm: name and reason, each pair once, and to how many streams.
    #[must_use]
    pub fn withheld(&self) -> BTreeMap<(String, String), usize> {
        let streams: Vec<_> = self.0.live().streams.values().filter_map(Weak::upgrade).collect();
        let mut withheld = BTreeMap::new();
        for stream in &streams {
            for slot in stream.engine().slots() {
                if let Some(error) = slot.withheld {
                    *withheld.entry((slot.name.to_string(), error.to_string())).or_default() += 1;
                }
            }
        }
        withheld
    }

    /// Enters a stream, unless there are `max` already, or the caller's account has half of them: nobody can keep
    /// the others out. `engine` is given the number of the stream.
    pub(super) fn open(
        &self,
        max: usize,
        session: &Session,
        now: Timestamp,
        engine: impl FnOnce(u64) -> Subscription,
    ) -> Option<Arc<LiveStream>> {
        let caller = session.caller();
        let proxy = self.0.proxies.of(session);
        let mut live = self.0.live();
        let account = caller.account();
        let of_account = live.by_account.get(&account).copied().unwrap_or_default();
        if live.streams.len() >= max || of_account >= (max / 2).max(1) {
            return None;
        }
        live.by_account.insert(account, of_account + 1);
        let id = self.0.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let stream = Arc::new(LiveStream {
            id,
            caller: caller.clone(),
            since: now,
            engine: Mutex::new(engine(id).of(proxy.clone())),
            registry: self.0.clone(),
            session: session.clone(),
            proxy,
        });
        live.streams.insert(id, Arc::downgrade(&stream));
        drop(live);
        if let Some(proxy) = &stream.proxy {
            proxy.enter(&stream);
        }
        Some(stream)
    }
}

impl Registry {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveStream {
    pub(super) fn engine(&self) -> MutexGuard<'_, Subscription> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> StreamStatus {
        let engine = self.engine();
        let (address, certificate) = match &self.caller.origin {
            Origin::Local { .. } | Origin::Broker { .. } => (None, None),
            Origin::Remote { address, name } => (Some(*address), Some(name.to_string())),
        };
        StreamStatus {
            stream: self.id,
            connection: self.caller.connection,
            pid: self.caller.pid(),
            uid: self.caller.uid(),
            address,
            certificate,
            holder: self.session.holder().map(ToString::to_string),
            statistics: false,
            statistics_unused: None,
            protocol: engine.protocol(),
            node: engine.node().map(|node| node.id.to_string()),
            cluster: engine.node().map(|node| node.cluster.to_string()),
            since: self.since,
            names: engine.slots().iter().map(NameStatus::of).collect(),
        }
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        if let Some(proxy) = &self.proxy {
            proxy.left(self.id, self.caller.connection, &self.engine());
            proxy.touch(); // it may have been the last
        }
        let mut live = self.registry.live();
        live.streams.remove(&self.id);
        let account = self.caller.account();
        if let Some(of_account) = live.by_account.get_mut(&account) {
            *of_account -= 1;
            if *of_account == 0 {
                live.by_account.remove(&account);
            }
        }
    }
}

impl NameStatus {
    /// Takes over what the roster knows beyond the client's word, if it is of the version that this stream sent last.
    pub fn prove(&mut self, row: &NameRow) {
        if self.version.map(|version| version.revision) != Some(row.version.revision) {
            return;
        }
        self.state = match (self.state, row.standing) {
            (NameState::Acknowledged, Standing::ProvedApplied) => NameState::ProvedApplied,
            (NameState::Acknowledged | NameState::Refused, Standing::PossiblyApplied) => {
                NameState::PossiblyApplied
            }
            (state, _) => state,
        };
    }

    fn of(slot: &Slot) -> Self {
        let version = slot.sent.as_ref().map(|sent| sent.version);
        let (acked, nacked) = (slot.acked.as_ref(), slot.nacked.as_deref());
        let state = match version {
            None if slot.withheld.is_some() => NameState::Withheld,
            None => NameState::NotAvailable,
            Some(v) if nacked.is_some_and(|nacked| nacked.version == v) => NameState::Refused,
            Some(v) if acked.is_some_and(|acked| acked.version == v) => NameState::Acknowledged,
            Some(_) => NameState::Sent,
        };
        Self {
            name: slot.name.to_string(),
            state,
            version,
            sent_at: slot.sent.as_ref().map(|sent| sent.at),
            acked_version: acked.map(|acked| acked.version),
            acked_at: acked.map(|acked| acked.at),
            took_ms: acked.map(|acked| u64::try_from(acked.took.as_millis()).unwrap_or(u64::MAX)),
            withheld: slot.withheld.map(|error| error.to_string()),
            nack: nacked.map(|nacked| NackStatus {
                at: nacked.at,
                version: nacked.version,
                reason: nacked.reason,
                explained: nacked.reason.kind.explained(),
            }),
        }
    }
}

impl Subscription {
    /// A copy of where each name stands.
    #[must_use]
    pub fn names(&self) -> Vec<NameStatus> {
        self.slots().iter().map(NameStatus::of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sds::Limits;

    #[test]
    fn one_user_cannot_take_all_streams() {
        let registry = StreamRegistry::default();
        let open = |uid| {
            let (_, session) = Session::channel(Caller::local(1, 1, uid, 1));
            let engine = |id| Subscription::new(Protocol::Sotw, &Limits::default(), id);
            registry.open(4, &session, Timestamp::from_unix_seconds(0), engine)
        };
        let (first, second) = (open(1), open(1));
        assert!(first.is_some() && open(1).is_none());
        assert!(open(2).is_some(), "the others have their half");
        drop(first);
        let again = open(1);
        assert!(again.is_some());
        drop((again, second));
        assert!(registry.0.live().by_account.is_empty());
    }
}
