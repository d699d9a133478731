//! Two tokens that end the process in order: first "finish your work", later "drop it".

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::CancellationToken;

/// The half that ends things. Held by the supervisor and the signals.
#[derive(Clone, Debug)]
pub struct Drainer(Drain);

/// The half that every task selects on.
#[derive(Clone, Debug)]
pub struct Drain {
    /// How far it is, for those who look often: a token has a lock.
    phase: Arc<AtomicU8>,
    begun: CancellationToken,
    forced: CancellationToken,
}

const BEGUN: u8 = 1;
const FORCED: u8 = 2;

/// Both halves.
#[must_use]
pub fn channel() -> (Drainer, Drain) {
    let drain =
        Drain { phase: Arc::default(), begun: CancellationToken::new(), forced: CancellationToken::new() };
    (Drainer(drain.clone()), drain)
}

impl Drainer {
    /// Asks every task to take no new work and to finish what it has.
    pub fn begin(&self) {
        self.0.phase.fetch_max(BEGUN, Ordering::Release);
        self.0.begun.cancel();
    }

    /// Tells every task to drop what it still has.
    pub fn force(&self) {
        self.0.phase.store(FORCED, Ordering::Release);
        self.0.begun.cancel();
        self.0.forced.cancel();
    }

    /// Another handle of the tasks' half.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.0.clone()
    }
}

impl Drain {
    /// Returns once the work should be finished. Cancel safe.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// The token that is cancelled once the work should be finished, for tasks of the library.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.begun.clone()
    }

    /// Returns once the work should be dropped. Cancel safe.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.phase.load(Ordering::Acquire) >= BEGUN
    }

    /// Whether the work should be dropped.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.phase.load(Ordering::Acquire) == FORCED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn force_implies_begin() {
        let (drainer, drain) = channel();
        assert!(!drain.has_begun() && !drain.is_forced());
        drainer.begin();
        assert!(drain.has_begun() && !drain.is_forced());
        drainer.force();
        drainer.begin();
        assert!(drain.has_begun() && drain.is_forced());
        drain.begun().await;
        drain.forced().await;
    }
}
