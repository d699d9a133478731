//! The node's state and how each event changes it. No I/O but reading the cache; time is passed in.

mod identities;
mod reach;
mod tokens;
mod turns;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::Semaphore;

use self::turns::Turns;
use super::Command;
use super::issue::{Answer, Issue, IssueError};
use crate::clock::Timestamp;
use crate::identity::{ContentHash, TrustBundle};
use crate::node::cache::Cache;
use crate::node::known::Known;
use crate::node::pace::Pace;
use crate::node::renewal::Config;
use crate::node::slot::{Slot, Spec};
use crate::node::view::{View, ViewId};
use crate::registration::{Entry, EntryIndex};

pub(super) struct State {
    config: Config,
    index: Arc<EntryIndex>,
    bundle: Arc<TrustBundle>,
    /// The identities of the server itself: a few.
    own: Vec<Arc<Entry>>,
    views: BTreeMap<ViewId, View>,
    known: Arc<Known>,
    next_view: u64,
    slots: HashMap<Spec, Slot>,
    /// The tokens of each identity, by its SPIFFE ID.
    tokens: BTreeMap<String, BTreeSet<Spec>>,
    /// How fast new ones come.
    pace: Pace,
    /// When the timer looks at which identity.
    timer: BTreeSet<(Timestamp, Spec)>,
    /// Identities that wait for a place among the signatures in flight.
    turns: Turns,
    /// Places in flight that those may have who never had an SVID.
    newcomers: Arc<Semaphore>,
    /// Identities whose last try failed.
    failing: BTreeSet<Spec>,
}

impl State {
    pub(super) fn new(
        config: Config,
        index: Arc<EntryIndex>,
        bundle: Arc<TrustBundle>,
        known: Arc<Known>,
    ) -> Self {
        let newcomers = Arc::new(Semaphore::new((config.in_flight / 4 * 3).max(1)));
        Self {
            config,
            index,
            bundle,
            own: Vec::new(),
            views: BTreeMap::new(),
            known,
            next_view: 0,
            slots: HashMap::new(),
            tokens: BTreeMap::new(),
            pace: Pace::default(),
            timer: BTreeSet::new(),
            turns: Turns::default(),
            newcomers,
            failing: BTreeSet::new(),
        }
    }

    pub(super) fn command(&mut self, command: Command, cache: &Cache, now: Timestamp) {
        // A caller that has gone does not want its answer.
        match command {
            Command::View { selectors, reply } => drop(reply.send(self.view(selectors, cache, now))),
            Command::Own { entry, reply } => {
                let selectors = Arc::new(entry.selectors.clone());
                self.own.push(entry);
                drop(reply.send(self.view(selectors, cache, now)));
            }
            Command::Token { caller, spiffe_id, token, reply } => {
                drop(reply.send(self.token(caller.as_ref(), &spiffe_id, token, now)))
            }
            Command::Identities { reply } => drop(reply.send(self.identities())),
        }
    }

    pub(super) fn bundle_changed(&mut self, bundle: Arc<TrustBundle>, now: Timestamp) {
        self.bundle = bundle;
        let all: BTreeSet<ViewId> = self.views.keys().copied().collect();
        all.iter().for_each(|id| self.reach(*id));
        self.publish(all, now);
    }

    /// What the cache should keep: the identities that some entry still asks for.
    pub(super) fn wanted(&self) -> HashSet<ContentHash> {
        self.index.entries().chain(&self.own).map(|entry| Spec::of(entry, &self.index).hash()).collect()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.known.clear();
    }
}
