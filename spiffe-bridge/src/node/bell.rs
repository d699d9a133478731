//! Wakes every stream of a connection when its session changes.
//!
//! A `watch` channel would do; but its waiters enter and leave a locked list each
//! time, which is a tenth of what a push to ten thousand streams costs. Here a waiter keeps its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// The side that rings.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: AtomicU64,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.rung.fetch_add(1, Ordering::Release);
        self.seats().wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits for the bell that it is always given. Bounded by the streams, of which each has one.
#[derive(Debug)]
pub(super) struct Listener {
    heard: u64,
    seat: Option<(usize, Waker)>,
}

impl Listener {
    /// Hears every ring of `bell` from now on.
    pub(super) fn new(bell: &Bell) -> Self {
        Self { heard: bell.rung.load(Ordering::Acquire), seat: None }
    }

    /// Whether it rang since the last call; if not, the task is woken when it does.
    pub(super) fn poll_rung(&mut self, bell: &Bell, cx: &Context<'_>) -> bool {
        if self.heard(bell) {
            return true;
        }
        if self.seat.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return false;
        }
        self.sit(bell, cx.waker().clone());
        self.heard(bell) // it may have rung before we sat
    }

    /// Gives its place back.
    pub(super) fn leave(&mut self, bell: &Bell) {
        let Some((at, _)) = self.seat.take() else { return };
        let mut seats = bell.seats();
        if let Some(place) = seats.wakers.get_mut(at) {
            *place = None;
            seats.free.push(at);
        }
    }

    fn heard(&mut self, bell: &Bell) -> bool {
        let rung = bell.rung.load(Ordering::Acquire);
        std::mem::replace(&mut self.heard, rung) != rung
    }

    fn sit(&mut self, bell: &Bell, waker: Waker) {
        let mut seats = bell.seats();
        let at = self.seat.as_ref().map(|(at, _)| *at).or_else(|| seats.free.pop());
        let at = at.unwrap_or(seats.wakers.len());
        match seats.wakers.get_mut(at) {
            Some(place) => *place = Some(waker.clone()),
            None => {
                // Most bells have one or two, and ten thousand of them the room for it.
                if at == seats.wakers.capacity() {
                    seats.wakers.reserve_exact(at.max(1));
                }
                seats.wakers.push(Some(waker.clone()));
            }
        }
        drop(seats);
        self.seat = Some((at, waker));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_listener_is_woken_once_a_ring_and_a_place_is_used_again() {
        let (bell, count) = (Bell::default(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let mut listeners: Vec<_> = (0..3).map(|_| Listener::new(&bell)).collect();
        assert!(listeners.iter_mut().all(|listener| !listener.poll_rung(&bell, &cx)));
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
        assert!(listeners.iter_mut().all(|listener| listener.poll_rung(&bell, &cx)));
        assert!(listeners.iter_mut().all(|listener| !listener.poll_rung(&bell, &cx)));
        listeners.pop().unwrap().leave(&bell);
        let mut later = Listener::new(&bell);
        assert!(!later.poll_rung(&bell, &cx), "what rang before is not heard");
        assert_eq!(bell.seats().wakers.len(), 3);
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 6);
    }
}
