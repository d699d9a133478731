//! Looking at processes again that make no connection of their own: the kernel tells nobody when a process executes a
//! program or changes its user, and whoever acts for it must not go on with what the former one was given.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// How long a process is left alone between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Looks at one time, and how long each keeps its place: 1,000 a second and no more, however many processes there are.
const AT_ONCE: usize = 16;
const APART: Duration = Duration::from_millis(16);

/// The looks at many processes, bounded together: each is looked at once a second while there are a thousand of them,
/// and in turn beyond. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rounds(Arc<Semaphore>);

impl Default for Rounds {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Rounds {
    /// Calls `look` again and again, until it fails. Who is dropped meanwhile takes no place from the others.
    pub(super) async fn until_failed<E>(&self, look: impl Fn() -> Result<(), E>) -> E {
        loop {
            tokio::time::sleep(EVERY).await;
            let _turn = self.0.acquire().await; // never closed
            if let Err(error) = look() {
                return error;
            }
            tokio::time::sleep(APART).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_is_looked_at_every_second_and_a_crowd_in_turn() {
        for (crowd, at_least, at_most) in [(10, 8, 10), (1_000, 8, 10), (16_000, 0, 1)] {
            let (rounds, looks) = (Rounds::default(), Arc::<[AtomicUsize]>::from_iter(zeros(crowd)));
            let tasks: tokio::task::JoinSet<()> = (0..crowd)
                .map(|at| {
                    let (rounds, looks) = (rounds.clone(), looks.clone());
                    async move {
                        let count = || {
                            looks[at].fetch_add(1, Ordering::Relaxed);
                            Ok(())
                        };
                        rounds.until_failed::<()>(count).await;
                    }
                })
                .collect();
            tokio::time::sleep(EVERY * 10).await;
            drop(tasks);
            let counts: Vec<_> = looks.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            let range = counts.iter().min().unwrap()..=counts.iter().max().unwrap();
            assert!(*range.start() >= &at_least && *range.end() <= &at_most, "{crowd}: {range:?}");
            assert!(counts.iter().sum::<usize>() <= 10 * 1_000, "{crowd}");
        }
    }

    fn zeros(count: usize) -> impl Iterator<Item = AtomicUsize> {
        (0..count).map(|_| AtomicUsize::new(0))
    }
}
