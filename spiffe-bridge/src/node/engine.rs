//! The one owner of the node's state: views, identities and their renewals.

mod issue;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::issue::Answer;
use self::state::State;
use super::cache::{Cache, Kept};
use super::known::Known;
use super::own::{self, OwnIdentity};
use super::refusals::Refusals;
use super::renewal::Config;
use super::seal::SealingKey;
use super::slot::Spec;
use super::status::{IdentityStatus, NodeStatus};
use super::tokens::{TokenFollower, TokenRefused, TokenShown, TokenSpec};
use super::view::Shown;
use crate::authority::Authority;
use crate::clock::Clock;
use crate::identity::{SelectorSet, SpiffeId, TrustBundle};
use crate::keys::pool::{self, ReadyKeys};
use crate::registration::{Entry, EntryIndex};
use crate::roster::HolderKey;
use crate::store::Store;

/// Callers that wait for their view. A full queue holds new connections back, it loses none.
const QUEUE: usize = 1024;
/// Callers that are answered before anything else is looked at.
const BATCH: usize = 256;
/// How often views that nobody looks at any more are dropped and the cache is pruned.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(30);

/// A handle to the node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Node {
    commands: mpsc::Sender<Command>,
    clock: Clock,
    status: Arc<ArcSwap<NodeStatus>>,
    refusals: Arc<Refusals>,
    known: Arc<Known>,
}

/// The node's engine has stopped: the server is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node's engine has stopped")]
pub struct NodeClosed;

enum Command {
    View {
        selectors: Arc<SelectorSet>,
        reply: oneshot::Sender<watch::Receiver<Shown>>,
    },
    Own {
        entry: Arc<Entry>,
        reply: oneshot::Sender<watch::Receiver<Shown>>,
    },
    Token {
        caller: Option<HolderKey>,
        spiffe_id: SpiffeId,
        token: TokenSpec,
        reply: oneshot::Sender<Result<watch::Receiver<TokenShown>, TokenRefused>>,
    },
    Identities {
        reply: oneshot::Sender<Vec<IdentityStatus>>,
    },
}

/// The task behind [`Node`].
pub struct Engine {
    commands: mpsc::Receiver<Command>,
    status: Arc<ArcSwap<NodeStatus>>,
    index: watch::Receiver<Arc<EntryIndex>>,
    bundle: watch::Receiver<Arc<TrustBundle>>,
    authority: Authority,
    cache: Cache,
    clock: Clock,
    config: Config,
    known: Arc<Known>,
}

/// A node that asks `authority`, serves the entries of `index` and keeps its SVIDs in `store`, sealed
/// with `key`.
#[must_use]
pub fn open(
    config: Config,
    authority: Authority,
    index: watch::Receiver<Arc<EntryIndex>>,
    store: Store,
    key: SealingKey,
    clock: Clock,
) -> (Node, Engine) {
    let (sender, commands) = mpsc::channel(QUEUE);
    let bundle = authority.bundle();
    let cache = Cache::new(store, key);
    let status = Arc::<ArcSwap<NodeStatus>>::default();
    let (refusals, known) = (Arc::default(), Arc::<Known>::default());
    let node = Node {
        commands: sender,
        clock: clock.clone(),
        status: status.clone(),
        refusals,
        known: known.clone(),
    };
    (node, Engine { commands, status, index, bundle, authority, cache, clock, config, known })
}

impl Node {
    /// What is logged of callers that are not served.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The view of a caller with `selectors`.
    pub(super) async fn view(
        &self,
        selectors: Arc<SelectorSet>,
    ) -> Result<watch::Receiver<Shown>, NodeClosed> {
        if let Some(known) = self.known.find(&selectors) {
            return Ok(known);
        }
        self.ask(|reply| Command::View { selectors, reply }).await
    }

    /// Has `spiffe_id`, an ID of the server itself, issued with `dns_names` and renewed.
    ///
    /// # Errors
    /// [`NodeClosed`] if its engine has stopped.
    pub async fn own(&self, spiffe_id: SpiffeId, dns_names: Vec<String>) -> Result<OwnIdentity, NodeClosed> {
        let entry = Arc::new(own::entry(spiffe_id, dns_names));
        self.ask(|reply| Command::Own { entry, reply }).await.map(OwnIdentity::new)
    }

    /// Follows a token of `spiffe_id`, which whoever asks is entitled to: issued if it is not there, and renewed as long
    /// as it is followed. `caller` is who asks, for its share of the pace; those who are not known share one.
    ///
    /// # Errors
    /// [`TokenRefused`].
    pub async fn token(
        &self,
        caller: Option<HolderKey>,
        spiffe_id: SpiffeId,
        token: TokenSpec,
    ) -> Result<TokenFollower, TokenRefused> {
        let asked = self.ask(|reply| Command::Token { caller, spiffe_id, token, reply }).await;
        let shown = asked.map_err(|NodeClosed| TokenRefused::Closed)??;
        Ok(TokenFollower::new(shown, self.clock.clone()))
    }

    /// The node, counted, as of its last step.
    #[must_use]
    pub fn status(&self) -> Arc<NodeStatus> {
        self.status.load_full()
    }

    /// Every identity in memory, by SPIFFE ID.
    ///
    /// # Errors
    /// [`NodeClosed`] if its engine has stopped.
    pub async fn identities(&self) -> Result<Vec<IdentityStatus>, NodeClosed> {
        self.ask(|reply| Command::Identities { reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, NodeClosed> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NodeClosed)?;
        answer.await.map_err(|_| NodeClosed)
    }
}

impl Engine {
    /// Runs until `drain` is cancelled or every [`Node`] is gone.
    pub async fn run(self, drain: CancellationToken) {
        let (ready, filler) = pool::open(self.config.ready_keys, self.clock.clone());
        let filled = drain.clone();
        tokio::select! {
            () = self.serve(ready, drain) => {}
            () = async { filler.run(filled).await; std::future::pending().await } => {}
        }
    }

    async fn serve(mut self, ready: ReadyKeys, drain: CancellationToken) {
        ready.want(&self.index.borrow().key_types());
        let mut state = State::new(
            self.config.clone(),
            self.index.borrow_and_update().clone(),
            self.bundle.borrow_and_update().clone(),
            self.known.clone(),
        );
        let mut flights: JoinSet<Answer> = JoinSet::new();
        // Each follows a flight, and takes its place among those in flight until it is written.
        let mut saves: JoinSet<()> = JoinSet::new();
        let mut commands = Vec::with_capacity(BATCH);
        let mut sweep = self.clock.now() + SWEEP;
        loop {
            let now = self.clock.now();
            let busy = flights.len() + saves.len();
            for issue in state.take_issues(now, self.config.in_flight.saturating_sub(busy), &ready) {
                flights.spawn(issue.run(self.authority.clone(), self.clock.clone()));
            }
            self.status.store(Arc::new(state.status()));
            let wake = state.next_due().map_or(sweep, |due| due.min(sweep));
            tokio::select! {
                () = drain.cancelled() => {
                    while saves.join_next().await.is_some() {}
                    return;
                }
                count = self.commands.recv_many(&mut commands, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let now = self.clock.now();
                    commands.drain(..).for_each(|command| state.command(command, &self.cache, now));
                }
                Some(answer) = flights.join_next() => {
                    let now = self.clock.now();
                    let (mut changed, mut answer) = (BTreeSet::new(), Some(answer));
                    // One pass over the views for all answers that are in.
                    while let Some(mut next) = answer {
                        if let Ok(Answer { spec, result: Ok(held), place }) = &mut next
                            && let Some(kept) = Kept::of(held)
                        {
                            saves.spawn(save(self.cache.clone(), spec.clone(), kept, place.take()));
                        }
                        changed.extend(state.answered(next, now));
                        answer = flights.try_join_next();
                    }
                    state.publish(changed, now);
                }
                () = ready.added() => {} // somebody may have waited for it
                Some(_) = saves.join_next() => while saves.try_join_next().is_some() {},
                Ok(()) = self.index.changed() => {
                    let index = self.index.borrow_and_update().clone();
                    ready.want(&index.key_types());
                    let gone = state.entries_changed(index, &self.cache, self.clock.now());
                    self.forget(gone).await;
                }
                Ok(()) = self.bundle.changed() => {
                    let bundle = self.bundle.borrow_and_update().clone();
                    state.bundle_changed(bundle, self.clock.now());
                }
                () = self.clock.sleep_until(wake) => {
                    let now = self.clock.now();
                    if now >= sweep {
                        sweep = now + SWEEP;
                        state.sweep(now);
                        if let Err(error) = self.cache.prune(now, &state.wanted()).await {
                            tracing::warn!(%error, "cannot prune the SVID cache");
                        }
                    }
                    state.expire(now);
                }
            }
        }
    }

    async fn forget(&self, gone: Vec<super::slot::Spec>) {
        if let Err(error) = self.cache.remove(gone).await {
            // Not lost: the sweep looks for records without an entry too.
            tracing::warn!(%error, "cannot remove the cached SVIDs of removed entries yet");
        }
    }
}

/// Keeps an SVID for the next start. Whoever waits for it is served before: a crash in between costs its holders
/// one rebuilt context.
async fn save(cache: Cache, spec: Spec, held: Kept, place: Option<OwnedSemaphorePermit>) {
    if let Err(error) = cache.save(&spec, &held).await {
        tracing::warn!(spiffe_id = %held.svid.spiffe_id, %error, "cannot keep the SVID for the next start");
    }
    drop(place);
}
