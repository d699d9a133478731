//! Two tokens that end the process in order: first "finish your work", later "drop it".

use tokio_util::sync::CancellationToken;

/// The half that ends things. Held by the supervisor and the signals.
#[derive(Clone, Debug)]
pub struct Drainer {
    begun: CancellationToken,
    forced: CancellationToken,
}

/// The half that every task selects on.
#[derive(Clone, Debug)]
pub struct Drain {
    begun: CancellationToken,
    forced: CancellationToken,
}

/// Both halves.
#[must_use]
pub fn channel() -> (Drainer, Drain) {
    let (begun, forced) = (CancellationToken::new(), CancellationToken::new());
    (Drainer { begun: begun.clone(), forced: forced.clone() }, Drain { begun, forced })
}

impl Drainer {
    /// Asks every task to take no new work and to finish what it has.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Tells every task to drop what it still has.
    pub fn force(&self) {
        self.begun.cancel();
        self.forced.cancel();
    }

    /// Another handle of the tasks' half.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain { begun: self.begun.clone(), forced: self.forced.clone() }
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
        self.begun.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn force_implies_begin() {
        let (drainer, drain) = channel();
        assert!(!drain.has_begun());
        drainer.force();
        drain.begun().await;
        drain.forced().await;
    }
}
