//! Ready once everybody who held readiness back has let go.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// Who is not ready yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(watch::Sender<BTreeMap<&'static str, usize>>);

/// Holds readiness back until it is dropped.
#[must_use = "dropping the guard says ready"]
#[derive(Debug)]
pub struct Guard {
    readiness: Readiness,
    name: &'static str,
}

impl Readiness {
    /// Ready, until the first guard is taken. Take all guards before the tasks are spawned.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds readiness back under `name`.
    pub fn guard(&self, name: &'static str) -> Guard {
        self.0.send_modify(|pending| *pending.entry(name).or_default() += 1);
        Guard { readiness: self.clone(), name }
    }

    /// Whether nobody holds readiness back.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The names of those that still hold it back, sorted.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.0.borrow().keys().copied().collect()
    }

    /// Returns once nobody holds readiness back.
    pub async fn ready(&self) {
        // `self` holds the sender, so that the channel cannot close under us.
        let _ = self.0.subscribe().wait_for(BTreeMap::is_empty).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A task that panics is not ready, and the supervisor is about to end the process.
        if std::thread::panicking() {
            return;
        }
        self.readiness.0.send_modify(|pending| {
            if let Some(count) = pending.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    pending.remove(self.name);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_the_last_guard_is_dropped() {
        let readiness = Readiness::new();
        let (first, second) = (readiness.guard("store"), readiness.guard("endpoint"));
        assert_eq!(readiness.pending(), ["endpoint", "store"]);
        drop(first);
        assert_eq!(readiness.pending(), ["endpoint"]);
        assert!(!readiness.is_ready());
        drop(second);
        readiness.ready().await;
    }
}
