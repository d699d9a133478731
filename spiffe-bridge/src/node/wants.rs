//! Which tokens the streams of one connection want, and those that they get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::engine::Node;
use super::tokens::{TokenFollower, TokenSpec};
use crate::identity::{SpiffeId, WorkloadUpdate};

/// The most tokens that the streams of one connection get together. Invariant 11.
pub const MAX_WANTS: usize = 64;

/// A token that a stream wants beside what the entries give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// A JWT-SVID of the default identity for this audience.
    Jwt(Arc<str>),
    /// The WIT-SVID of every identity.
    Wit,
}

/// What the streams of a connection want together.
#[derive(Debug, Clone, Default)]
pub(super) struct Wants(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<BTreeMap<Want, usize>>,
    changed: Notify,
}

/// What one stream wants, until it is dropped.
#[derive(Debug)]
pub struct Interest {
    wants: Wants,
    mine: BTreeSet<Want>,
}

impl Wants {
    pub(super) fn interest(&self) -> Interest {
        Interest { wants: self.clone(), mine: BTreeSet::new() }
    }

    /// Waits for another want, or one less. One change is kept for whoever comes late.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn current(&self) -> BTreeSet<Want> {
        self.counts().keys().take(MAX_WANTS).cloned().collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Want, usize>> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    /// Wants these, and no others any more.
    pub fn set(&mut self, wanted: BTreeSet<Want>) {
        if wanted == self.mine {
            return;
        }
        let mut counts = self.wants.counts();
        for new in wanted.difference(&self.mine) {
            *counts.entry(new.clone()).or_default() += 1;
        }
        for old in self.mine.difference(&wanted) {
            if let Some(count) = counts.get_mut(old) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(old);
                }
            }
        }
        drop(counts);
        self.mine = wanted;
        self.wants.0.changed.notify_one();
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.set(BTreeSet::new());
    }
}

/// The tokens that are followed for one connection.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    followed: BTreeMap<(SpiffeId, TokenSpec), TokenFollower>,
    /// One a token: it ends when that token is another, or gone.
    changes: JoinSet<()>,
}

impl Tokens {
    /// `update` with the tokens that `wants` asks for and that are there. The very same if nothing is asked for.
    pub(super) async fn add_to(
        &mut self,
        update: Arc<WorkloadUpdate>,
        wants: &Wants,
        node: &Node,
    ) -> Arc<WorkloadUpdate> {
        let wanted = wants.current();
        if wanted.is_empty() && self.followed.is_empty() {
            return update;
        }
        // Boxed: few want any.
        Box::pin(self.follow(&update, &wanted, node)).await;
        if wanted.is_empty() {
            return update;
        }
        let mut with = WorkloadUpdate::clone(&update);
        for ((id, spec), follower) in &self.followed {
            let Some(svid) = follower.current() else { continue };
            match spec {
                TokenSpec::Jwt { audience } => {
                    with.jwt_svids
                        .extend(audience.iter().map(|audience| (audience.as_str().into(), svid.clone())));
                }
                TokenSpec::Wit => drop(with.wit_svids.insert(id.clone(), svid)),
            }
        }
        Arc::new(with)
    }

    /// Follows what is wanted of the identities that there are, and nothing else.
    async fn follow(&mut self, update: &WorkloadUpdate, wanted: &BTreeSet<Want>, node: &Node) {
        let ids = || update.identities.iter().map(|identity| &identity.svid.spiffe_id);
        let mut keys = BTreeSet::new();
        for want in wanted {
            match want {
                Want::Jwt(audience) => {
                    let spec = TokenSpec::Jwt { audience: vec![audience.to_string()] };
                    keys.extend(ids().next().map(|id| (id.clone(), spec)));
                }
                Want::Wit => keys.extend(ids().map(|id| (id.clone(), TokenSpec::Wit))),
            }
        }
        self.followed.retain(|key, follower| keys.contains(key) && !follower.is_gone());
        for key in keys {
            if self.followed.contains_key(&key) {
                continue;
            }
            // Refused for now: asked for again with the next change.
            if let Ok(follower) = node.token(key.0.clone(), key.1.clone()).await {
                self.followed.insert(key, follower);
            }
        }
        self.changes = JoinSet::new();
        for follower in self.followed.values_mut() {
            follower.mark_seen(); // what is read from here on is at least this
            let mut follower = follower.clone();
            self.changes.spawn(async move {
                if !follower.changed().await {
                    std::future::pending().await // gone: the entries tell
                }
            });
        }
    }

    /// Waits until one of them has changed since [`Self::add_to`].
    pub(super) async fn changed(&mut self) {
        if self.changes.join_next().await.is_none() {
            std::future::pending().await
        }
    }
}
