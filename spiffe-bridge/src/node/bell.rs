//! Wakes every stream of a connection when its session changes.
//!
//! A `watch` channel would do, and does for those who wait once; but its waiters enter and leave a locked list each
//! time, which is a tenth of what a push to ten thousand streams costs. Here a waiter keeps its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// One who waits. Bounded by the streams, of which each has one.
#[derive(Debug)]
pub(super) struct Listener {
    bell: Arc<Bell>,
    heard: u64,
    seat: Option<(usize, Waker)>,
}

impl Listener {
    /// Hears every ring from now on.
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        let heard = bell.rung.load(Ordering::Acquire);
        Self { bell, heard, seat: None }
    }

    /// Whether it rang since the last call; if not, the task is woken when it does.
    pub(super) fn poll_rung(&mut self, cx: &Context<'_>) -> bool {
        if self.heard() {
            return true;
        }
        if self.seat.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return false;
        }
        self.sit(cx.waker().clone());
        self.heard() // it may have rung before we sat
    }

    fn heard(&mut self) -> bool {
        let rung = self.bell.rung.load(Ordering::Acquire);
        std::mem::replace(&mut self.heard, rung) != rung
    }

    fn sit(&mut self, waker: Waker) {
        let mut seats = self.bell.seats();
        let at = self.seat.as_ref().map(|(at, _)| *at).or_else(|| seats.free.pop());
        let at = at.unwrap_or(seats.wakers.len());
        match seats.wakers.get_mut(at) {
            Some(place) => *place = Some(waker.clone()),
            None => seats.wakers.push(Some(waker.clone())),
        }
        drop(seats);
        self.seat = Some((at, waker));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some((at, _)) = self.seat.take() else { return };
        let mut seats = self.bell.seats();
        if let Some(place) = seats.wakers.get_mut(at) {
            *place = None;
            seats.free.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
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
        let (bell, count) = (Arc::new(Bell::default()), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let mut listeners: Vec<_> = (0..3).map(|_| Listener::new(bell.clone())).collect();
        assert!(listeners.iter_mut().all(|listener| !listener.poll_rung(&cx)));
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
        assert!(listeners.iter_mut().all(|listener| listener.poll_rung(&cx)));
        assert!(listeners.iter_mut().all(|listener| !listener.poll_rung(&cx)));
        listeners.pop();
        let mut later = Listener::new(bell.clone());
        assert!(!later.poll_rung(&cx), "what rang before is not heard");
        assert_eq!(bell.seats().wakers.len(), 3);
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 6);
    }
}
