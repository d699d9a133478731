//! Futures that are polled together, and which of them were woken: some at a time are polled, in the order of their wakes,
//! so that none holds a thread for long.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use futures::task::AtomicWaker;

/// A set of futures. Bounded by who adds them.
pub(super) struct Seats<F> {
    seats: Vec<Option<Seated<F>>>,
    free: Vec<usize>,
    /// Taken from the list, not polled yet.
    due: VecDeque<usize>,
    woken: Arc<Woken>,
}

struct Seated<F> {
    future: F,
    seat: Arc<Seat>,
    waker: Waker,
}

#[derive(Default)]
struct Woken {
    list: Mutex<VecDeque<usize>>,
    task: AtomicWaker,
}

/// What wakes one of them. It stands in the list once at most.
struct Seat {
    at: usize,
    is_listed: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut list = self.woken.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push_back(self.at);
        let is_first = list.len() == 1;
        drop(list);
        if is_first {
            self.woken.task.wake();
        }
    }
}

impl<F: Future<Output = ()> + Unpin> Seats<F> {
    pub(super) fn new() -> Self {
        Self { seats: Vec::new(), free: Vec::new(), due: VecDeque::new(), woken: Arc::default() }
    }

    /// Adds one, which is due at once.
    pub(super) fn push(&mut self, future: F) {
        let at = self.free.pop().unwrap_or(self.seats.len());
        let seat = Arc::new(Seat { at, is_listed: AtomicBool::new(false), woken: self.woken.clone() });
        let waker = Waker::from(seat.clone());
        let seated = Some(Seated { future, seat, waker });
        match self.seats.get_mut(at) {
            Some(place) => *place = seated,
            None => {
                // Most sets have one or two, and ten thousand of them the room for it.
                if at == self.seats.capacity() {
                    self.seats.reserve_exact(at.max(1));
                }
                self.seats.push(seated);
            }
        }
        self.due.push_back(at);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.seats.len()
    }

    /// Polls those that are due until none is left, or `is_enough` after one of them: then `true`, and it is to be called
    /// again. Else the task is woken with the next of them.
    pub(super) fn poll_some(&mut self, cx: &Context<'_>, mut is_enough: impl FnMut() -> bool) -> bool {
        loop {
            if self.due.is_empty() {
                self.woken.task.register(cx.waker()); // before the look at the list: nothing falls between the two
                let mut list = self.woken.list.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut *list, &mut self.due);
            }
            let Some(at) = self.due.pop_front() else { return false };
            // Its seat may have been left, or taken by another: one poll too many.
            let Some(place) = self.seats.get_mut(at) else { continue };
            let Some(Seated { future, seat, waker }) = place else { continue };
            seat.is_listed.store(false, Ordering::Release); // before the poll: what comes during it is another wake
            if Pin::new(future).poll(&mut Context::from_waker(waker)).is_ready() {
                *place = None;
                self.free.push(at);
            }
            if is_enough() {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::channel::oneshot;
    use futures::future::BoxFuture;

    use super::*;

    #[test]
    fn who_is_woken_is_polled_some_at_a_time_and_leaves_its_seat_when_done() {
        let (task, cx) = (futures::task::noop_waker(), |task| Context::from_waker(task));
        let mut seats: Seats<BoxFuture<'static, ()>> = Seats::new();
        let mut senders = Vec::new();
        let poll = |seats: &mut Seats<_>| {
            let mut polled = 0;
            seats.poll_some(&cx(&task), || {
                polled += 1;
                polled == 64
            })
        };
        for _ in 0..=64 {
            let (sender, receiver) = oneshot::channel::<()>();
            senders.push(sender);
            seats.push(receiver.map(drop).boxed());
        }
        assert!(poll(&mut seats), "one is left");
        assert!(!poll(&mut seats));
        let seated = |seats: &Seats<_>| seats.seats.iter().flatten().count();
        senders.truncate(64); // the last one's future ends
        assert!(!poll(&mut seats));
        assert_eq!(seated(&seats), 64);
        drop(senders);
        seats.push(futures::future::pending().boxed());
        assert_eq!(seats.seats.len(), 64 + 1, "the empty seat is taken");
        while poll(&mut seats) {}
        while poll(&mut seats) {}
        assert_eq!(seated(&seats), 1);
    }

    /// What wakes the task is spent by the first wake of a poll, and some were left over: the next poll must see who was
    /// woken meanwhile, or nobody ever does.
    #[test]
    fn who_is_woken_while_others_are_left_over_is_not_forgotten() {
        let task = futures::task::noop_waker();
        let mut seats: Seats<BoxFuture<'static, ()>> = Seats::new();
        let (wake, woken) = oneshot::channel::<()>();
        seats.push(woken.map(drop).boxed());
        assert!(!seats.poll_some(&Context::from_waker(&task), || false), "it waits");
        seats.push(async move { wake.send(()).unwrap() }.boxed());
        seats.push(futures::future::pending().boxed());
        assert!(seats.poll_some(&Context::from_waker(&task), || true), "one is left over");
        seats.poll_some(&Context::from_waker(&task), || false);
        assert_eq!(seats.seats.iter().flatten().count(), 1, "the one that was woken is done");
    }
}
