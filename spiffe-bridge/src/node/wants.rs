//! Which tokens the streams of one connection want, and those that they get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::engine::Node;
use super::renewal::{jitter, retry_after};
use super::session::{Session, Sessions};
use super::tokens::{TokenFollower, TokenSpec};
use crate::identity::{SpiffeId, WorkloadUpdate};
use crate::roster::HolderKey;

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
#[derive(Debug, Default)]
pub(super) struct Wants {
    counts: Mutex<BTreeMap<Want, usize>>,
    changed: Notify,
}

/// What one stream wants, until it is dropped.
#[derive(Debug)]
pub struct Interest {
    session: Session,
    mine: BTreeSet<Want>,
}

impl Wants {
    /// Waits for another want, or one less. One change is kept for whoever comes late.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn current(&self) -> BTreeSet<Want> {
        self.counts().keys().take(MAX_WANTS).cloned().collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Want, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    pub(super) fn new(session: Session) -> Self {
        Self { session, mine: BTreeSet::new() }
    }

    /// Wants these, and no others any more.
    pub fn set(&mut self, wanted: BTreeSet<Want>) {
        if wanted == self.mine {
            return;
        }
        let mut counts = self.session.wants().counts();
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
        self.session.wants().changed.notify_one();
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
    again: Again,
}

/// When what was refused for now is asked for again. What is held is renewed by the engine, and is never refused.
#[derive(Debug, Default)]
struct Again {
    at: Option<Instant>,
    refusals: u32,
}

impl Again {
    /// After a pass in which something was refused, or was not, and something new was had, or was not: the pace makes up
    /// for a token in milliseconds, and a crowd that has nothing for long asks ever less often.
    fn settle(&mut self, is_refused: bool, is_served: bool) {
        if !is_refused {
            *self = Self::default();
            return;
        }
        self.refusals = if is_served { 1 } else { self.refusals.saturating_add(1) };
        self.at = Some(Instant::now() + retry_after(self.refusals, None, jitter()));
    }

    async fn due(&self) {
        match self.at {
            Some(at) => Box::pin(tokio::time::sleep_until(at)).await, // boxed: few wait
            None => std::future::pending().await,
        }
    }
}

impl Tokens {
    /// `update` with the tokens that the streams of `sessions` want and that are there. The very same if nothing is asked for.
    pub(super) async fn add_to(
        &mut self,
        update: Arc<WorkloadUpdate>,
        sessions: &Sessions,
        node: &Node,
    ) -> Arc<WorkloadUpdate> {
        let wanted = sessions.wants().current();
        if wanted.is_empty() && self.followed.is_empty() {
            self.again = Again::default();
            return update;
        }
        // Boxed: few want any.
        Box::pin(self.follow(&update, &wanted, sessions.holder(), node)).await;
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
    async fn follow(
        &mut self,
        update: &WorkloadUpdate,
        wanted: &BTreeSet<Want>,
        holder: Option<&HolderKey>,
        node: &Node,
    ) {
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
        let (mut refused, mut is_served) = (BTreeSet::new(), false);
        for key in keys {
            let (id, spec) = &key;
            // Who was refused one of an identity is refused the next.
            if self.followed.contains_key(&key) || refused.contains(id) {
                continue;
            }
            match node.token(holder.cloned(), id.clone(), spec.clone()).await {
                Ok(follower) => {
                    is_served = true;
                    self.followed.insert(key, follower);
                }
                Err(_) => drop(refused.insert(key.0)),
            }
        }
        self.again.settle(!refused.is_empty(), is_served);
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

    /// Waits until one of them has changed since [`Self::add_to`], or one that was refused should be asked for again.
    pub(super) async fn changed(&mut self) {
        let Self { changes, again, .. } = self;
        let change = async {
            if changes.join_next().await.is_none() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = change => {}
            () = again.due() => {}
        }
    }
}
