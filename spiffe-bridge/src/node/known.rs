//! The views that there are, for callers that need not ask the engine: most have the selectors of somebody before them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::view::Shown;
use crate::identity::SelectorSet;

/// Written by the engine alone. In parts with a lock each, so that callers seldom meet.
#[derive(Debug)]
pub(super) struct Known {
    hasher: RandomState,
    parts: [Mutex<Part>; 63],
    rest: Mutex<Part>,
}

type Part = HashMap<Arc<SelectorSet>, watch::Sender<Shown>>;

impl Default for Known {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::default()),
            rest: Mutex::default(),
        }
    }
}

impl Known {
    /// The view of callers with `selectors`, if there is one.
    pub(super) fn find(&self, selectors: &SelectorSet) -> Option<watch::Receiver<Shown>> {
        self.part(selectors).get(selectors).map(watch::Sender::subscribe)
    }

    pub(super) fn add(&self, selectors: Arc<SelectorSet>, sender: watch::Sender<Shown>) {
        self.part(&selectors).insert(selectors, sender);
    }

    /// Forgets the view of `selectors` if nobody looks at it; whether it did. Nobody finds it in between.
    pub(super) fn forget_idle(&self, selectors: &SelectorSet) -> bool {
        let mut part = self.part(selectors);
        let is_idle = part.get(selectors).is_some_and(|sender| sender.receiver_count() == 0);
        if is_idle {
            part.remove(selectors);
        }
        is_idle
    }

    /// Forgets all: who looks at a view hears that nothing comes any more.
    pub(super) fn clear(&self) {
        self.parts.iter().chain([&self.rest]).for_each(|part| lock(part).clear());
    }

    fn part(&self, selectors: &SelectorSet) -> MutexGuard<'_, Part> {
        let at = usize::try_from(self.hasher.hash_one(selectors) % 64).unwrap_or_default();
        lock(self.parts.get(at).unwrap_or(&self.rest))
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_found_until_it_is_forgotten_and_is_not_forgotten_while_somebody_looks() {
        let known = Known::default();
        let selectors: Arc<SelectorSet> = Arc::new(["unix:uid:7".parse().unwrap()].into());
        assert!(known.find(&selectors).is_none());
        known.add(selectors.clone(), watch::Sender::default());
        let looks = known.find(&selectors).unwrap();
        assert!(!known.forget_idle(&selectors));
        drop(looks);
        assert!(known.forget_idle(&selectors));
        assert!(known.find(&selectors).is_none());
        assert!(!known.forget_idle(&selectors));
    }

    #[tokio::test]
    async fn when_all_are_forgotten_nothing_more_comes() {
        let known = Known::default();
        known.add(Arc::default(), watch::Sender::default());
        let mut looks = known.find(&SelectorSet::new()).unwrap();
        known.clear();
        assert!(looks.changed().await.is_err());
    }
}
