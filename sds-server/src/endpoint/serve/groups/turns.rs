//! The turns of a group: what is in it is polled, and who waits begins.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::task::coop;

use super::super::seats::Seats;
use super::credit::{Credit, Place};
use super::entrance::Entrance;
use super::{Job, Newcomer, Party, TURN};
use crate::runtime::Seldom;

/// Who has begun goes before newcomers, so that what begins also ends; but a newcomer begins after so many turns.
const NEWCOMERS_TURN: u32 = 8;

/// A turn on another thread than the task's, which has it once in a while: long enough to look at a caller and answer it.
const TURN_BESIDE: Duration = TURN.saturating_mul(4);

/// What is in a group.
pub(super) struct Turns {
    party: Party,
    seats: Seats<Whole>,
    /// Turns in which no newcomer could begin, as those who had begun took all of them.
    passed_over: u32,
    credit: Credit,
    /// Whether its last turn was over before its work was.
    has_more: bool,
    /// The group's task, once it has begun.
    task: Waker,
}

/// A job of a caller, of which a panic ends nothing but itself: the hook of telemetry tells of it, and this whose it was.
struct Whole(Job, Party);

/// Lines of the log on jobs that broke off.
static BROKEN: Seldom = Seldom::several(10, Duration::from_secs(10));

impl Turns {
    pub(super) fn new(party: Party) -> Self {
        let task = Waker::noop().clone();
        Self { party, seats: Seats::new(), passed_over: 0, credit: Credit::new(), has_more: false, task }
    }

    /// Where its credit has it.
    pub(super) fn place(&self) -> Place {
        self.credit.place()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// A turn of the group's task.
    pub(super) fn take<N: Newcomer>(&mut self, cx: &Context<'_>, entrance: &Entrance<N>) {
        self.task.clone_from(cx.waker());
        self.take_one(cx, entrance, TURN);
    }

    /// A turn on another thread than the task's.
    pub(super) fn take_beside<N: Newcomer>(&mut self, entrance: &Entrance<N>) {
        let task = self.task.clone();
        self.take_one(&Context::from_waker(&task), entrance, TURN_BESIDE);
    }

    /// All that is in it, which leaves it empty.
    pub(super) fn clear(&mut self) -> impl Sized + use<> {
        std::mem::replace(&mut self.seats, Seats::new())
    }

    fn take_one<N: Newcomer>(&mut self, cx: &Context<'_>, entrance: &Entrance<N>, length: Duration) {
        let began = Instant::now();
        self.poll_until(cx, entrance, began + length);
        self.credit.spend(began, Instant::now(), self.has_more);
    }

    /// Takes in who came, and what was begun beside the others; whether there was any of the latter.
    fn take_in<N: Newcomer>(&mut self, entrance: &Entrance<N>) -> bool {
        entrance.let_in();
        self.take_in_beside(entrance)
    }

    fn take_in_beside<N: Newcomer>(&mut self, entrance: &Entrance<N>) -> bool {
        let beside = std::mem::take(&mut *entrance.group().begun_beside());
        let is_any = !beside.is_empty();
        beside.into_iter().for_each(|job| self.seats.push(Whole(job, self.party)));
        is_any
    }

    /// Has the next newcomer begin; whether there was one.
    fn begin_next<N: Newcomer>(&mut self, entrance: &Entrance<N>) -> bool {
        self.passed_over = 0;
        let Some(newcomer) = entrance.next() else { return false };
        if newcomer.has_left() {
            return true;
        }
        // Unwind safe: what it drops when it panics is its own.
        let begun = catch_unwind(AssertUnwindSafe(|| newcomer.begin(entrance.group())));
        // First what it has beside it: once its caller is known, all that it has to say is said at once.
        self.take_in_beside(entrance);
        begun.ok().flatten().into_iter().for_each(|job| self.seats.push(Whole(job, self.party)));
        true
    }

    fn poll_until<N: Newcomer>(&mut self, cx: &Context<'_>, entrance: &Entrance<N>, end: Instant) {
        // What the runtime allows a task, its own I/O keeps to; it is woken for the rest.
        let is_enough = || Instant::now() >= end || !coop::has_budget_remaining();
        self.has_more = false;
        if entrance.group().0.all.swap(false, Ordering::AcqRel) {
            self.seats.wake_all();
        }
        self.take_in(entrance);
        entrance.look();
        loop {
            let mut is_more = self.seats.poll_some(cx, is_enough);
            is_more |= self.take_in(entrance);
            if !is_more || self.passed_over >= NEWCOMERS_TURN {
                is_more |= self.begin_next(entrance);
            }
            if !is_more {
                return;
            }
            if is_enough() {
                self.has_more = true;
                self.passed_over += 1;
                cx.waker().wake_by_ref(); // the other callers have their turn
                return;
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
