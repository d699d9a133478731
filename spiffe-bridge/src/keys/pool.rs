//! Keys made ahead: an RSA key takes so long to find that whoever waits for a certificate should not wait for it.
//!
//! ```text
//! Filler (one key at a time, on a thread for blocking work) ──► stock, a few a type ──► ReadyKeys::take
//! ```
//!
//! Only types that are asked for are made, and one after the other: at most one core works on them. A key that
//! is not handed out is wiped when the pool is dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::KeyType;
use super::workload::{self, WorkloadKey};
use crate::clock::Clock;

/// How long the maker waits after a failure: there is nothing that it could do differently.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The stock, to take from. Cheap to clone.
#[derive(Clone)]
pub struct ReadyKeys(Arc<Shared>);

/// The task that fills the stock.
#[derive(Debug)]
pub struct Filler {
    keys: ReadyKeys,
    clock: Clock,
}

struct Shared {
    stock: Mutex<Stock>,
    /// A key was taken, or other types are wanted.
    lacking: Notify,
    /// A key was added.
    added: Notify,
}

struct Stock {
    /// At most so many of each type: what waits here is a secret in memory.
    of_each: usize,
    /// The types that are wanted.
    keys: BTreeMap<KeyType, VecDeque<WorkloadKey>>,
}

/// An empty stock that is to hold `of_each` keys of each type that is wanted (at least one), and who fills it.
#[must_use]
pub fn open(of_each: usize, clock: Clock) -> (ReadyKeys, Filler) {
    let stock = Mutex::new(Stock { of_each: of_each.max(1), keys: BTreeMap::new() });
    let keys = ReadyKeys(Arc::new(Shared { stock, lacking: Notify::new(), added: Notify::new() }));
    (keys.clone(), Filler { keys, clock })
}

impl ReadyKeys {
    /// Has keys of the dear ones of `types` made from now on, and those of others dropped.
    pub fn want(&self, types: &BTreeSet<KeyType>) {
        let mut stock = self.stock();
        stock.keys.retain(|key_type, _| types.contains(key_type));
        for key_type in types.iter().filter(|key_type| key_type.is_dear()) {
            stock.keys.entry(*key_type).or_default();
        }
        drop(stock);
        self.0.lacking.notify_one();
    }

    /// A key of `key_type`, if one is ready.
    #[must_use]
    pub fn take(&self, key_type: KeyType) -> Option<WorkloadKey> {
        let key = self.stock().keys.get_mut(&key_type)?.pop_front()?;
        self.0.lacking.notify_one();
        Some(key)
    }

    /// How many keys of `key_type` are ready.
    #[must_use]
    pub fn count(&self, key_type: KeyType) -> usize {
        self.stock().keys.get(&key_type).map_or(0, VecDeque::len)
    }

    /// Returns once a key was added since the last call.
    pub async fn added(&self) {
        self.0.added.notified().await;
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.0.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wanted type of which the fewest are ready, if there is room for one more.
    fn next(&self) -> Option<KeyType> {
        let stock = self.stock();
        let lacking = stock.keys.iter().filter(|(_, ready)| ready.len() < stock.of_each);
        lacking.min_by_key(|(_, ready)| ready.len()).map(|(key_type, _)| *key_type)
    }

    /// Puts `key` in, unless its type is not wanted any more.
    fn add(&self, key_type: KeyType, key: WorkloadKey) {
        if let Some(ready) = self.stock().keys.get_mut(&key_type) {
            ready.push_back(key);
        }
        self.0.added.notify_one();
    }
}

impl Filler {
    /// Makes keys until `drain` is cancelled. One that is being made then is not waited for.
    pub async fn run(self, drain: CancellationToken) {
        loop {
            let made = async {
                match self.keys.next() {
                    Some(key_type) => self.make(key_type).await,
                    None => self.keys.0.lacking.notified().await,
                }
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = made => {}
            }
        }
    }

    async fn make(&self, key_type: KeyType) {
        let made = tokio::task::spawn_blocking(move || workload::generate(key_type)).await;
        match made {
            Ok(Ok(key)) => self.keys.add(key_type, key),
            failed => {
                let error = failed.map_or_else(
                    |cut| cut.to_string(),
                    |made| made.err().map_or_else(String::new, |e| e.to_string()),
                );
                tracing::error!(%key_type, error, "cannot make a key ahead");
                self.clock.sleep_until(self.clock.now() + AFTER_FAILURE).await;
            }
        }
    }
}

impl fmt::Debug for ReadyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stock = self.stock();
        f.debug_map().entries(stock.keys.iter().map(|(key_type, ready)| (key_type, ready.len()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_dear_keys_that_are_wanted_are_made_and_only_so_many() {
        let (keys, filler) = open(2, Clock::system());
        let drain = CancellationToken::new();
        let filling = tokio::spawn(filler.run(drain.clone()));
        assert!(keys.take(KeyType::Rsa2048).is_none());
        keys.want(&BTreeSet::from([KeyType::EcP256, KeyType::Rsa2048]));
        for _ in 0..2 {
            keys.added().await;
        }
        assert_eq!((keys.count(KeyType::Rsa2048), keys.count(KeyType::EcP256)), (2, 0));
        assert_eq!(keys.next(), None, "full");
        let [one, two] = [(); 2].map(|()| keys.take(KeyType::Rsa2048).unwrap().public);
        assert_ne!(one, two, "a key is handed out once");
        keys.added().await; // what was taken is made again
        keys.want(&BTreeSet::new());
        assert_eq!(keys.count(KeyType::Rsa2048), 0, "what is not wanted is dropped");
        assert!(!format!("{keys:?}").contains("public"));
        drain.cancel();
        filling.await.unwrap();
    }
}
