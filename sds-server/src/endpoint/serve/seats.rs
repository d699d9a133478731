//! Futures that are polled together, and which of them were woken: some at a time are polled, in the order of their wakes,
//! so that none holds a thread for long. One that is woken while it is polled goes on at once, as far as it may: what it
//! needs is at hand, and after ten thousand others it is not.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use futures::task::AtomicWaker;

/// So often at most one goes on at once.
const AT_ONCE: u32 = 2;

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
    state: AtomicU8,
    woken: Arc<Woken>,
}

/// It is to be polled: by whoever polls it just now, or because it stands in a list.
const IS_WOKEN: u8 = 1;
/// It is being polled, or was for the last time.
const IS_POLLED: u8 = 2;

impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(IS_WOKEN, Ordering::AcqRel) != 0 {
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
        let seat = Arc::new(Seat { at, state: AtomicU8::new(IS_WOKEN), woken: self.woken.clone() });
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

    /// Has all of them polled.
    pub(super) fn wake_all(&self) {
        self.seats.iter().flatten().for_each(|seated| seated.waker.wake_by_ref());
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
            let Some(place) = self.seats.get_mut(at) else { continue };
            let mut more = AT_ONCE;
            while let Some(Seated { future, seat, waker }) = place {
                seat.state.swap(IS_POLLED, Ordering::AcqRel); // before the poll: what comes during it is another wake
                let is_done = Pin::new(future).poll(&mut Context::from_waker(waker)).is_ready();
                let is_over = is_enough();
                if is_done {
                    *place = None; // its wakers are those of a seat that is polled for ever
                    self.free.push(at);
                } else if seat.state.fetch_and(!IS_POLLED, Ordering::AcqRel) & IS_WOKEN != 0 {
                    if !is_over && more > 0 {
                        more -= 1;
                        continue;
                    }
                    self.due.push_back(at);
                }
                if is_over {
                    return true;
                }
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

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

    #[test]
    fn who_wakes_itself_goes_on_a_few_times_and_then_the_others_have_their_turn() {
        let task = futures::task::noop_waker();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut seats: Seats<BoxFuture<'static, ()>> = Seats::new();
        for name in ['a', 'b'] {
            let order = order.clone();
            let busy = std::future::poll_fn(move |cx| {
                order.lock().unwrap().push(name);
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            seats.push(busy.boxed());
        }
        let mut polls = 0;
        let is_enough = || {
            polls += 1;
            polls == 8
        };
        assert!(seats.poll_some(&Context::from_waker(&task), is_enough), "both go on");
        assert_eq!(order.lock().unwrap().iter().collect::<String>(), "aaabbbaa");
        assert!(seats.poll_some(&Context::from_waker(&task), || true));
        assert_eq!(order.lock().unwrap().last(), Some(&'b'), "its turn was over");
    }

    /// What is left of one that is done wakes nobody who has its seat now.
    #[test]
    fn a_waker_outlives_its_future_and_wakes_nothing() {
        let task = futures::task::noop_waker();
        let kept = Arc::new(Mutex::new(None));
        let mut seats: Seats<BoxFuture<'static, ()>> = Seats::new();
        let keep = kept.clone();
        let keeps = std::future::poll_fn(move |cx| {
            *keep.lock().unwrap() = Some(cx.waker().clone());
            Poll::Ready(())
        });
        seats.push(keeps.boxed());
        assert!(!seats.poll_some(&Context::from_waker(&task), || false));
        let polls = Arc::new(AtomicU8::new(0));
        let counted = polls.clone();
        let waits = std::future::poll_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        });
        seats.push(waits.boxed());
        assert!(!seats.poll_some(&Context::from_waker(&task), || false));
        kept.lock().unwrap().take().unwrap().wake();
        assert!(!seats.poll_some(&Context::from_waker(&task), || false));
        assert_eq!(polls.load(Ordering::Relaxed), 1);
    }
}
