//! A group's task, and who takes turns in its place.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::runtime::Handle;

use super::credit::Place;
use super::entrance::Entrance;
use super::turns::Turns;
use super::{Newcomer, Party, Shared, Slot};
use crate::endpoint::metrics::Busy;

/// The task of a group.
pub(super) struct Run<N: Newcomer> {
    shared: Arc<Shared<N>>,
    slot: Slot,
    caller: Arc<Caller<N>>,
    /// While it is of the crowd.
    busy: Option<Busy>,
}

/// A group. Its turns are taken by whoever is there first, and not waited for by another.
pub(super) struct Caller<N> {
    pub(super) entrance: Entrance<N>,
    turns: Mutex<Turns>,
    is_of_crowd: AtomicBool,
}

/// What a thread has for turns beside what it is there for: as much as for that.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Leisure(Instant);

/// How a run of a group ends.
enum End {
    /// Nothing is left, and nothing will come.
    Over,
    /// It goes on elsewhere.
    Moved,
}

impl<N: Newcomer> Caller<N> {
    pub(super) fn new(party: Party) -> Self {
        let (entrance, turns) = (Entrance::default(), Mutex::new(Turns::new(party)));
        Self { entrance, turns, is_of_crowd: AtomicBool::new(false) }
    }

    /// A turn on this thread if it has the leisure, nobody takes one just now, and the caller is not of the crowd. Its task
    /// is not waited for: it has been woken perhaps, and does not run yet.
    pub(super) fn take_turn(&self, runtime: &Handle, leisure: &mut Leisure) {
        let began = Instant::now();
        if !leisure.is_any(began) || self.is_of_crowd.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut turns) = self.try_turns() else { return };
        // Not for the waiting: here the runtime allows it what it would allow a task.
        runtime.block_on(async { turns.take_beside(&self.entrance) });
        drop(turns);
        leisure.spend(began, Instant::now());
    }

    /// Wakes its task, if it has one.
    pub(super) fn wake(&self) {
        self.entrance.group().0.task.wake();
    }

    fn try_turns(&self) -> Option<MutexGuard<'_, Turns>> {
        match self.turns.try_lock() {
            Ok(turns) => Some(turns),
            Err(TryLockError::Poisoned(turns)) => Some(turns.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Leisure {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Leisure {
    pub(super) fn is_any(self, now: Instant) -> bool {
        now >= self.0
    }

    pub(super) fn spend(&mut self, began: Instant, ended: Instant) {
        self.0 = ended + ended.saturating_duration_since(began);
    }
}

impl<N: Newcomer> Run<N> {
    pub(super) fn new(shared: Arc<Shared<N>>, slot: Slot, caller: Arc<Caller<N>>) -> Self {
        Self { shared, slot, caller, busy: None }
    }

    /// Spawns it where its credit has it, if there is anything to do.
    pub(super) fn start(mut self) {
        let shared = self.shared.clone();
        let turns = self.caller.turns();
        let is_busy = turns.place() == Place::Crowd;
        let is_over = self.is_over(&turns);
        drop(turns);
        if is_over {
            return;
        }
        if is_busy && let Some(suppressed) = shared.busy.event(Instant::now()) {
            tracing::info!(caller = %self.slot.0, suppressed, "a caller keeps the server busy: others go before it");
        }
        self.busy = is_busy.then(Busy::count);
        self.caller.is_of_crowd.store(is_busy, Ordering::Relaxed);
        let place = shared.crowd.as_ref().filter(|_| is_busy).unwrap_or(&shared.quiet);
        let (stop, mut run) = (shared.stop.clone(), self);
        let running = async move {
            if let Some(End::Moved) = stop.run_until_cancelled(poll_fn(|cx| run.poll_turn(cx))).await {
                run.start();
            }
        };
        shared.tasks.spawn_on(running, place);
    }

    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<End> {
        // Before the look at who waits: nobody falls between the two.
        self.caller.entrance.group().0.task.register(cx.waker());
        // Who takes one on another thread wakes this task after it.
        let Some(mut turns) = self.caller.try_turns() else { return Poll::Pending };
        turns.take(cx, &self.caller.entrance);
        let is_elsewhere = (turns.place() == Place::Crowd) != self.busy.is_some();
        match () {
            () if self.is_over(&turns) => Poll::Ready(End::Over),
            () if is_elsewhere && self.shared.crowd.is_some() => Poll::Ready(End::Moved),
            () => Poll::Pending,
        }
    }

    /// Whether nobody is left, nor will be.
    fn is_over(&self, turns: &Turns) -> bool {
        let (entrance, mut open) = (&self.caller.entrance, self.shared.open());
        let is_over = turns.is_empty() && entrance.is_empty() && entrance.group().begun_beside().is_empty();
        if is_over {
            open.remove(&self.slot);
        }
        is_over
    }
}

/// What is in it ends with it.
impl<N: Newcomer> Drop for Run<N> {
    fn drop(&mut self) {
        let left = self.caller.turns().clear();
        drop(left);
    }
}
