//! A group's task, which takes its turns.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::coop;

use super::super::seats::Seats;
use super::credit::{Credit, Place};
use super::entrance::Entrance;
use super::{Job, Newcomer, Party, Shared, Slot, TURN};
use crate::endpoint::metrics::Busy;
use crate::runtime::Seldom;

/// Who has begun goes before newcomers, so that what begins also ends; but a newcomer begins after so many turns.
const NEWCOMERS_TURN: u32 = 8;

/// The task of a group.
pub(super) struct Run<N> {
    shared: Arc<Shared<N>>,
    slot: Slot,
    entrance: Arc<Entrance<N>>,
    seats: Seats<Whole>,
    /// Turns in which no newcomer could begin, as those who had begun took all of them.
    passed_over: u32,
    credit: Credit,
    /// While it is of the crowd.
    busy: Option<Busy>,
    /// Whether its last turn was over before its work was.
    has_more: bool,
}

/// How a run of a group ends.
enum End {
    /// Nothing is left, and nothing will come.
    Over,
    /// It goes on elsewhere.
    Moved,
}

/// A job of a caller, of which a panic ends nothing but itself: the hook of telemetry tells of it, and this whose it was.
struct Whole(Job, Party);

/// Lines of the log on jobs that broke off.
static BROKEN: Seldom = Seldom::several(10, Duration::from_secs(10));

impl<N: Newcomer> Run<N> {
    pub(super) fn new(shared: Arc<Shared<N>>, slot: Slot, entrance: Arc<Entrance<N>>) -> Self {
        let credit = shared.ended().begin(slot, Instant::now());
        Self {
            shared,
            slot,
            entrance,
            seats: Seats::new(),
            passed_over: 0,
            credit,
            busy: None,
            has_more: false,
        }
    }

    /// Spawns it where its credit has it.
    pub(super) fn start(mut self) {
        let shared = self.shared.clone();
        let place = match (self.credit.place(), &shared.crowd) {
            (Place::Crowd, Some(crowd)) => crowd,
            _ => &shared.quiet,
        };
        let is_busy = self.credit.place() == Place::Crowd;
        if is_busy && let Some(suppressed) = shared.busy.event(Instant::now()) {
            tracing::info!(caller = %self.slot.0, suppressed, "a caller keeps the server busy: others go before it");
        }
        self.busy = is_busy.then(Busy::count);
        let (stop, mut run) = (shared.stop.clone(), self);
        let running = async move {
            if let Some(End::Moved) = stop.run_until_cancelled(poll_fn(|cx| run.poll_turn(cx))).await {
                run.start();
            }
        };
        shared.tasks.spawn_on(running, place);
    }

    /// Takes in who came, and what was begun beside the others; whether there was any of the latter.
    fn take_in(&mut self) -> bool {
        self.entrance.let_in();
        self.take_in_beside()
    }

    fn take_in_beside(&mut self) -> bool {
        let beside = std::mem::take(&mut *self.entrance.group().begun_beside());
        let is_any = !beside.is_empty();
        beside.into_iter().for_each(|job| self.seats.push(Whole(job, self.slot.0)));
        is_any
    }

    /// Has the next newcomer begin; whether there was one.
    fn begin_next(&mut self) -> bool {
        self.passed_over = 0;
        let Some(newcomer) = self.entrance.next() else { return false };
        if newcomer.has_left() {
            return true;
        }
        // Unwind safe: what it drops when it panics is its own.
        let begun = catch_unwind(AssertUnwindSafe(|| newcomer.begin(self.entrance.group())));
        // First what it has beside it: once its caller is known, all that it has to say is said at once.
        self.take_in_beside();
        begun.ok().flatten().into_iter().for_each(|job| self.seats.push(Whole(job, self.slot.0)));
        true
    }

    /// Whether nobody waits, nor will.
    fn is_over(&self) -> bool {
        let mut open = self.shared.open();
        let is_over = self.entrance.is_empty() && self.entrance.group().begun_beside().is_empty();
        if is_over {
            open.remove(&self.slot);
        }
        is_over
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.entrance.group().0.task.register(cx.waker()); // before the look at who waits: nobody falls between the two
        let (began, place) = (Instant::now(), self.credit.place());
        let turn = self.poll_until(cx, began + TURN);
        self.credit.spend(began, Instant::now(), self.has_more);
        match turn {
            Poll::Ready(End::Over) => {
                self.shared.ended().remember(self.slot, self.credit);
                Poll::Ready(End::Over)
            }
            Poll::Pending if self.shared.crowd.is_some() && self.credit.place() != place => {
                Poll::Ready(End::Moved)
            }
            turn => turn,
        }
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, end: Instant) -> Poll<End> {
        // What the runtime allows a task, its own I/O keeps to; it is woken for the rest.
        let is_enough = || Instant::now() >= end || !coop::has_budget_remaining();
        self.has_more = false;
        if self.entrance.group().0.all.swap(false, Ordering::AcqRel) {
            self.seats.wake_all();
        }
        self.take_in();
        self.entrance.look();
        loop {
            let mut is_more = self.seats.poll_some(cx, is_enough);
            is_more |= self.take_in();
            if !is_more || self.passed_over >= NEWCOMERS_TURN {
                is_more |= self.begin_next();
            }
            if !is_more {
                return if self.seats.is_empty() && self.is_over() {
                    Poll::Ready(End::Over)
                } else {
                    Poll::Pending
                };
            }
            if is_enough() {
                self.has_more = true;
                self.passed_over += 1;
                cx.waker().wake_by_ref(); // the other callers have their turn
                return Poll::Pending;
            }
        }
    }
}

impl Future for Whole {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Unwind safe: it is not polled again, and what it shares with others is behind locks that are taken poisoned or
        // not.
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))).unwrap_or_else(|_| {
            if let Some(suppressed) = BROKEN.event(Instant::now()) {
                tracing::error!(caller = %self.1, suppressed, "a connection of this caller broke off");
            }
            Poll::Ready(())
        })
    }
}
