//! The task that issues: batches from the queue, a few in flight, and the pruning of old reservations.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{IssuerError, Job, Shared, batch, state};
use crate::identity::TrustBundle;
use crate::store::{StoreError, Transaction, Write};

/// The most leaves in a batch: one reservation, one record. Few, so that batches do not all end at one time and leave the
/// processors without work while the disk has them; transactions that come together share a commit anyway.
pub(super) const BATCH: usize = 64;
/// The batches in flight. Some are signed, the others are on the way to and from the disk.
const IN_FLIGHT: usize = 16;
/// How often expired reservations are looked for, and how soon again while there are more.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
const PRUNE_AGAIN: Duration = Duration::from_secs(1);
/// The most reservations removed in one transaction, so that no leaf waits long behind it.
const PRUNE_STEP: usize = 64;

/// Issues what the [`Authority`](super::Authority)'s handles ask for.
pub struct Issuer {
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    bundle: watch::Sender<Arc<TrustBundle>>,
}

impl Issuer {
    pub(super) fn new(
        shared: Arc<Shared>,
        jobs: mpsc::Receiver<Job>,
        bundle: watch::Sender<Arc<TrustBundle>>,
    ) -> Self {
        Self { shared, jobs, bundle }
    }

    /// Issues until `drain` is cancelled or all handles are dropped; what was asked for by then is
    /// finished first. Outlives every failure of the store, and says so in each answer.
    ///
    /// # Errors
    /// [`IssuerError::BatchBroke`].
    pub async fn run(mut self, drain: CancellationToken) -> Result<(), IssuerError> {
        let mut in_flight = JoinSet::new();
        let mut waiting = Vec::with_capacity(BATCH);
        let mut prune_at = self.shared.clock.now();
        loop {
            let is_busy = !in_flight.is_empty();
            tokio::select! {
                biased;
                () = drain.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
                Some(done) = in_flight.join_next() => done.map_err(|_| IssuerError::BatchBroke)?,
                count = next(&mut self.jobs, &mut waiting, is_busy), if in_flight.len() < IN_FLIGHT => {
                    if count == 0 {
                        break;
                    }
                    let jobs = std::mem::replace(&mut waiting, Vec::with_capacity(BATCH));
                    in_flight.spawn(batch::issue(self.shared.clone(), jobs));
                }
                () = self.shared.clock.sleep_until(prune_at) => {
                    let wait = match self.prune().await {
                        Ok(PRUNE_STEP) => PRUNE_AGAIN,
                        Ok(_) => PRUNE_EVERY,
                        Err(error) => {
                            tracing::warn!(%error, "expired reservations could not be removed");
                            PRUNE_EVERY
                        }
                    };
                    prune_at = self.shared.clock.now() + wait;
                }
            }
        }
        while let Some(done) = in_flight.join_next().await {
            done.map_err(|_| IssuerError::BatchBroke)?;
        }
        drop(self.bundle);
        Ok(())
    }

    /// Removes expired reservations, in one bounded step, and returns how many.
    async fn prune(&self) -> Result<usize, StoreError> {
        let before = self.shared.clock.now() - self.shared.config.retention;
        let rows = self.shared.store.list_some(state::RESERVED, PRUNE_STEP)?;
        let expired = rows.into_iter().map(|(key, _)| key);
        let expired = expired.take_while(|key| state::reservation_ends(key).is_some_and(|end| end < before));
        let writes: Vec<_> = expired.map(|key| Write::Delete { key }).collect();
        let removed = writes.len();
        if removed > 0 {
            self.shared.store.transact(Transaction { compares: Vec::new(), writes }).await?;
        }
        Ok(removed)
    }
}

/// The next batch. While others are under way those who were just answered go first: what they ask for at once makes one
/// batch, and not one of its own for the first of them. Cancel-safe.
async fn next(jobs: &mut mpsc::Receiver<Job>, into: &mut Vec<Job>, is_busy: bool) -> usize {
    if is_busy {
        tokio::task::yield_now().await;
    }
    jobs.recv_many(into, BATCH).await
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.shared.config.trust_domain.as_str())
    }
}
