//! One client with all its streams: a process, or a remote caller, however many connections it has.
//!
//! It keeps what must outlive a stream: contents that the client refused, and in which bytes a content goes to it. And
//! it says where all its streams stand, level by level, to whoever keeps the books. The way of a push only sets a flag.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{ContentHash, Version, WorkloadUpdate};
use spiffe_bridge::node::{Account, Session};
use spiffe_bridge::roster::{HolderKey, Refusal, Roster};

use super::check::CheckError;
use super::look::{Lines, Look, Special, Told};
use super::nack::Reason;
use super::secret::{Lookup, Resource, look_up};
use super::status::LiveStream;
use super::subscription::Subscription;

/// Refused contents that are kept of a name; the oldest goes.
const REFUSALS: usize = 16;
/// Names that are kept with something special about them; more are not remembered beyond their stream.
const MARKS: usize = 4096;

/// A client.
#[derive(Debug)]
pub struct Proxy {
    holder: HolderKey,
    account: Account,
    /// Whether the server has seen all of its life: it is not in the roster of an earlier run.
    is_new: bool,
    streams: Mutex<Vec<Weak<LiveStream>>>,
    /// Whether anything was sent or said since the last look.
    touched: AtomicBool,
    /// Whether there are marks at all: most clients have none.
    is_marked: AtomicBool,
    marks: Mutex<BTreeMap<Box<str>, Mark>>,
    fetched: Mutex<BTreeMap<Box<str>, (Version, Timestamp)>>,
    left: Mutex<Left>,
    touch_list: Weak<Touched>,
}

/// Fetched names that are kept between two looks.
const FETCHED: usize = 64;

/// What streams left behind that ended since the last look.
#[derive(Debug, Default)]
struct Left {
    told: Vec<Told>,
    update: Option<Arc<WorkloadUpdate>>,
}

/// Names of ended streams that are kept between two looks.
const LEFT: usize = 4096;

#[derive(Debug, Default)]
struct Mark {
    refused: Vec<Refusal>,
    /// The content that goes out in other bytes, and in which.
    dress: Option<(ContentHash, u32)>,
    /// The bytes that came of it last.
    worn: Option<(ContentHash, Version)>,
    /// The content that would go out, had it not been refused.
    held_back: Option<Version>,
}

impl Proxy {
    /// Who it is.
    #[must_use]
    pub fn holder(&self) -> &HolderKey {
        &self.holder
    }

    /// On whose account it goes what is kept of it.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Whether the server has seen all of its life.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether one of its streams is of `connection`.
    #[must_use]
    pub fn speaks_over(&self, connection: u64) -> bool {
        self.live().iter().any(|stream| stream.caller.connection == connection)
    }

    /// Whether something changed since the last look.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Acquire)
    }

    /// Where it stands.
    #[must_use]
    pub fn look(&self) -> Look {
        self.touched.store(false, Ordering::Release);
        let streams = self.live();
        let Left { told: mut left, mut update } = std::mem::take(&mut *lock(&self.left));
        let mut told: Vec<Told> = Vec::with_capacity(streams.len());
        for stream in &streams {
            let (engine, connection) = (stream.engine(), stream.caller.connection);
            update = engine.seen().or(update);
            told.extend(
                engine.slots().iter().filter_map(|slot| Told::of((stream.id, connection), &engine, slot)),
            );
        }
        told.sort_unstable_by(|a, b| (&a.name, a.stream).cmp(&(&b.name, b.stream)));
        left.retain(|left| told.binary_search_by(|told| told.name.cmp(&left.name)).is_err());
        left.sort_by(|a, b| a.name.cmp(&b.name));
        let fetched = std::mem::take(&mut *lock(&self.fetched));
        let fetched = fetched.into_iter().map(|(name, (version, at))| (name, version, at)).collect();
        let special = if self.is_marked.load(Ordering::Acquire) {
            lock(&self.marks).iter().map(|(name, mark)| (name.clone(), mark.into())).collect()
        } else {
            BTreeMap::new()
        };
        let lines = match self.holder {
            HolderKey::Process(_) => Lines::default(),
            HolderKey::Remote(_) => Lines::of(streams.iter().map(|s| (s.caller.connection, s.engine()))),
        };
        Look { streams: streams.len(), update, told, left, fetched, special, lines }
    }

    /// From now on the content of `version` goes to this client under `name` in the bytes number `times`.
    pub fn redress(&self, name: &str, content: ContentHash, times: u32) {
        let mut marks = lock(&self.marks);
        if marks.len() < MARKS || marks.contains_key(name) {
            marks.entry(name.into()).or_default().dress = Some((content, times));
            self.is_marked.store(true, Ordering::Release);
        }
        drop(marks);
        for stream in self.live() {
            stream.engine().look_again();
            stream.session.ring();
        }
    }

    /// Whether there is anything special about a name.
    pub(super) fn is_marked(&self) -> bool {
        self.is_marked.load(Ordering::Relaxed)
    }

    /// What of `resource` may go to this client: itself, the same in other bytes, or nothing, if it was refused.
    pub(super) fn fitted(&self, resource: Arc<Resource>, now: Timestamp) -> Option<Arc<Resource>> {
        if !self.is_marked.load(Ordering::Relaxed) {
            return Some(resource);
        }
        let mut marks = lock(&self.marks);
        let Some(mark) = marks.get_mut(resource.name()) else { return Some(resource) };
        let fitted = match mark.dress {
            Some((content, times)) if content == resource.version().hash => {
                let dressed = super::dress::dressed(&resource, times, now);
                mark.worn = dressed.as_ref().map(|dressed| (dressed.version().hash, resource.version()));
                dressed.unwrap_or(resource)
            }
            _ => resource,
        };
        let hash = fitted.version().hash;
        let is_refused = mark.refused.iter().any(|refusal| refusal.hash == hash);
        let content =
            mark.worn.filter(|(worn, _)| *worn == hash).map_or(fitted.version(), |(_, content)| content);
        mark.held_back = is_refused.then_some(content);
        (!is_refused).then_some(fitted)
    }

    /// `version` of `name` is bad for this client, for good.
    pub(super) fn refused(&self, name: &str, version: Version, reason: Reason, at: Timestamp) {
        let mut marks = lock(&self.marks);
        if marks.len() >= MARKS && !marks.contains_key(name) {
            return;
        }
        let mark = marks.entry(name.into()).or_default();
        mark.refused.retain(|refusal| refusal.hash != version.hash);
        mark.refused.push(Refusal { hash: version.hash, kind: reason.kind.as_str().into(), at });
        let excess = mark.refused.len().saturating_sub(REFUSALS);
        mark.refused.drain(..excess);
        self.is_marked.store(true, Ordering::Release);
    }

    /// Names were fetched without a stream.
    pub(super) fn fetched(
        self: &Arc<Self>,
        found: &[Arc<Resource>],
        update: &Arc<WorkloadUpdate>,
        at: Timestamp,
    ) {
        let mut fetched = lock(&self.fetched);
        for resource in found {
            if fetched.len() < FETCHED || fetched.contains_key(resource.name()) {
                fetched.insert(resource.name().into(), (resource.version(), at));
            }
        }
        drop(fetched);
        lock(&self.left).update = Some(update.clone());
        self.touch();
    }

    /// One of its streams ended, and stood so.
    pub(super) fn left(&self, stream: u64, connection: u64, engine: &Subscription) {
        let mut left = lock(&self.left);
        left.update = engine.seen().or(left.update.take());
        for told in engine.slots().iter().filter_map(|slot| Told::of((stream, connection), engine, slot)) {
            left.told.retain(|of| of.name != told.name);
            if left.told.len() < LEFT {
                left.told.push(told);
            }
        }
    }

    /// Something was sent or said. On the way of every push: a load, and rarely more.
    pub(super) fn touch(self: &Arc<Self>) {
        if !self.touched.load(Ordering::Relaxed)
            && !self.touched.swap(true, Ordering::AcqRel)
            && let Some(list) = self.touch_list.upgrade()
        {
            lock(&list.0).push(self.clone());
        }
    }

    pub(super) fn enter(&self, stream: &Arc<LiveStream>) {
        let mut streams = lock(&self.streams);
        if streams.len() == streams.capacity() {
            streams.retain(|stream| stream.strong_count() > 0);
        }
        streams.push(Arc::downgrade(stream));
    }

    fn live(&self) -> Vec<Arc<LiveStream>> {
        lock(&self.streams).iter().filter_map(Weak::upgrade).collect()
    }
}

/// What there is of `name` for this client, if it is known who it is.
pub(super) fn look_up_for(
    proxy: Option<&Proxy>,
    update: &WorkloadUpdate,
    name: &str,
    now: Timestamp,
) -> Lookup {
    match (look_up(update, name, now), proxy) {
        // What it refused on whatever stream is bad for it, for good.
        (Lookup::Available(resource), Some(proxy)) => {
            proxy.fitted(resource, now).map_or(Lookup::Withheld(CheckError::RefusedBefore), Lookup::Available)
        }
        (found, _) => found,
    }
}

impl From<&Mark> for Special {
    fn from(mark: &Mark) -> Self {
        Self { refused: mark.refused.clone(), dress: mark.dress, worn: mark.worn, held_back: mark.held_back }
    }
}

/// Clients that were touched since they were last looked for. At most one entry each.
#[derive(Debug, Default)]
struct Touched(Mutex<Vec<Arc<Proxy>>>);

/// All clients. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    all: Arc<Mutex<HashMap<HolderKey, Arc<Proxy>>>>,
    touched: Arc<Touched>,
    roster: Option<Roster>,
}

impl Proxies {
    /// Clients, of whom `roster` remembers what they refused.
    #[must_use]
    pub fn remembered_by(roster: Roster) -> Self {
        Self { roster: Some(roster), ..Self::default() }
    }

    /// The client at the other end of `session`; `None` if it is not known who that is.
    pub(super) fn of(&self, session: &Session) -> Option<Arc<Proxy>> {
        let holder = session.holder()?;
        let mut all = lock(&self.all);
        if let Some(proxy) = all.get(holder) {
            return Some(proxy.clone());
        }
        let known = self.roster.as_ref().map(|roster| roster.names_of(holder)).unwrap_or_default();
        let is_new = self.roster.as_ref().is_none_or(|roster| roster.has_all() && !roster.knows(holder));
        let special = known.into_iter().filter(|(_, row)| row.dress > 0 || !row.refusals.is_empty());
        let marks: BTreeMap<_, _> = special
            .take(MARKS)
            .map(|(name, row)| {
                let dress = (row.dress > 0).then_some((row.version.hash, row.dress));
                (name, Mark { refused: row.refusals, dress, worn: None, held_back: None })
            })
            .collect();
        let proxy = Arc::new(Proxy {
            holder: holder.clone(),
            account: session.caller().account(),
            is_new,
            streams: Mutex::default(),
            touched: AtomicBool::new(false),
            is_marked: AtomicBool::new(!marks.is_empty()),
            marks: Mutex::new(marks),
            fetched: Mutex::default(),
            left: Mutex::default(),
            touch_list: Arc::downgrade(&self.touched),
        });
        all.insert(holder.clone(), proxy.clone());
        Some(proxy)
    }

    /// The client known as `holder`.
    #[must_use]
    pub fn find(&self, holder: &HolderKey) -> Option<Arc<Proxy>> {
        lock(&self.all).get(holder).cloned()
    }

    /// Those that were touched since the last call.
    #[must_use]
    pub fn take_touched(&self) -> Vec<Arc<Proxy>> {
        std::mem::take(&mut *lock(&self.touched.0))
    }

    /// Forgets clients that have no stream: the roster remembers what must be. To be called after they were looked at.
    pub fn sweep(&self) -> Vec<HolderKey> {
        let mut gone = Vec::new();
        lock(&self.all).retain(|holder, proxy| {
            let is_idle = proxy.live().is_empty() && !proxy.is_touched();
            if is_idle {
                gone.push(holder.clone());
            }
            !is_idle
        });
        gone
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
