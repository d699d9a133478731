//! The exchanges of one connection, and which of them were woken: some at a time are polled, so that what they say is
//! sent while it is at hand, and no connection holds a thread for long.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use futures::task::AtomicWaker;

/// Exchanges that are polled before the HTTP/2 library has its turn.
const AT_ONCE: usize = 64;

/// A set of futures. Bounded by the streams of a connection, of which each has one.
pub(super) struct Exchanges<E> {
    seats: Vec<Option<Seated<E>>>,
    free: Vec<usize>,
    /// Taken from the list, not polled yet.
    due: VecDeque<usize>,
    woken: Arc<Woken>,
}

struct Seated<E> {
    exchange: E,
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

impl<E: Future<Output = ()> + Unpin> Exchanges<E> {
    pub(super) fn new() -> Self {
        Self { seats: Vec::new(), free: Vec::new(), due: VecDeque::new(), woken: Arc::default() }
    }

    /// Adds one, which is due at once.
    pub(super) fn push(&mut self, exchange: E) {
        let at = self.free.pop().unwrap_or(self.seats.len());
        let seat = Arc::new(Seat { at, is_listed: AtomicBool::new(false), woken: self.woken.clone() });
        let waker = Waker::from(seat.clone());
        let seated = Some(Seated { exchange, seat, waker });
        match self.seats.get_mut(at) {
            Some(place) => *place = seated,
            None => {
                // Most connections have one or two, and ten thousand of them the room for it.
                if at == self.seats.capacity() {
                    self.seats.reserve_exact(at.max(1));
                }
                self.seats.push(seated);
            }
        }
        self.due.push_back(at);
    }

    /// Polls some of those that are due; whether more are. If not, the task is woken with the next of them.
    pub(super) fn poll_some(&mut self, cx: &Context<'_>) -> bool {
        if self.due.is_empty() {
            self.woken.task.register(cx.waker()); // before the look at the list: nothing falls between the two
            let mut list = self.woken.list.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *list, &mut self.due);
        }
        for at in self.due.drain(..AT_ONCE.min(self.due.len())) {
            // Its seat may have been left, or taken by another: one poll too many.
            let Some(place) = self.seats.get_mut(at) else { continue };
            let Some(Seated { exchange, seat, waker }) = place else { continue };
            seat.is_listed.store(false, Ordering::Release); // before the poll: what comes during it is another wake
            if Pin::new(exchange).poll(&mut Context::from_waker(waker)).is_ready() {
                *place = None;
                self.free.push(at);
            }
        }
        !self.due.is_empty()
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
        let mut exchanges: Exchanges<BoxFuture<'static, ()>> = Exchanges::new();
        let mut senders = Vec::new();
        for _ in 0..AT_ONCE + 1 {
            let (sender, receiver) = oneshot::channel::<()>();
            senders.push(sender);
            exchanges.push(receiver.map(drop).boxed());
        }
        assert!(exchanges.poll_some(&cx(&task)), "one is left");
        assert!(!exchanges.poll_some(&cx(&task)));
        let seated = |exchanges: &Exchanges<_>| exchanges.seats.iter().flatten().count();
        senders.truncate(AT_ONCE); // the last one's future ends
        assert!(!exchanges.poll_some(&cx(&task)));
        assert_eq!(seated(&exchanges), AT_ONCE);
        drop(senders);
        exchanges.push(futures::future::pending().boxed());
        assert_eq!(exchanges.seats.len(), AT_ONCE + 1, "the empty seat is taken");
        while exchanges.poll_some(&cx(&task)) {}
        while exchanges.poll_some(&cx(&task)) {}
        assert_eq!(seated(&exchanges), 1);
    }
}
