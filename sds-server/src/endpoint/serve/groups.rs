//! A turn for each caller: what runs for the connections of one process shares a few tasks.
//!
//! The runtime gives its tasks turns, one after the other. Were each connection a task, a process with ten thousand of them
//! would have ten thousand turns between two of its neighbour's. So the tasks are by caller, and a turn is short: a caller
//! waits for one turn of each other that keeps the server busy, as it would if they kept the CPU busy themselves.
//!
//! ```text
//! accepted ─► Groups ─► one caller's Group ─► newcomers ─► seats ◄─ work beside a connection
//! ```
//!
//! docs/decisions/0019-turns.md

mod credit;
mod line;
mod run;

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{AbortHandle, abortable};
use futures::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::endpoint::limits::Holder;
use crate::runtime::{Drain, Seldom};
use line::Line;
use run::Run;

/// A caller's turn is over after so long, and with what was begun by then.
pub(super) const TURN: Duration = Duration::from_micros(100);

/// So often at most the log tells of a caller that keeps the server busy.
const TOLD: Duration = Duration::from_mins(1);

/// What runs in a group.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What waits for its first turn.
pub(super) trait Newcomer: Send {
    /// Whether nobody waits for it any more.
    fn has_left(&self) -> bool;

    /// Its turn. `None` if it comes to nothing.
    fn begin(self: Box<Self>, group: &Group) -> Option<Job>;
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// A process of this node, by its pid. That one follows another under the same pid does no harm: both had turns.
    Process(u32),
    /// Whoever connections are counted for.
    Holder(Holder),
}

/// For a line of a log.
impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "pid {pid}"),
            Self::Holder(Holder::User(uid)) => write!(f, "uid {uid}"),
            Self::Holder(Holder::Address(address)) => write!(f, "{address}"),
        }
    }
}

/// The groups of a door. What is in them is dropped with this.
pub(super) struct Groups {
    shared: Arc<Shared>,
    _running: DropGuard,
}

struct Shared {
    /// Where groups run that do little, and those that do much.
    quiet: Handle,
    crowd: Option<Handle>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Tasks a caller: as many as can run at one time, so that one caller alone has all of the machine.
    each: u64,
    open: Mutex<HashMap<Slot, Group>>,
    /// Lines of the log that callers can cause.
    busy: Seldom,
}

/// A task of a caller.
type Slot = (Party, u64);

/// What runs for one caller, or a part of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Group(Arc<Inbox>);

struct Inbox {
    waiting: Mutex<Waiting>,
    /// Of the group's turn, but for a [`Groups::purge`].
    line: Mutex<Line<Box<dyn Newcomer>>>,
    /// Whether all of them are to be polled.
    all: AtomicBool,
    task: AtomicWaker,
}

#[derive(Default)]
struct Waiting {
    newcomers: VecDeque<Box<dyn Newcomer>>,
    /// Begun by what runs already.
    beside: Vec<Job>,
}

/// Ends what it stands for when it is dropped.
pub(super) struct Beside(AbortHandle);

impl Groups {
    /// None yet. Needs a Tokio runtime, and has another for those that do much if there is a `crowd`. When `drain` begins
    /// and when it is forced, all that runs in them is polled: it need not wait for that by itself, ten thousand times.
    pub(super) fn new(crowd: Option<Handle>, drain: &Drain) -> Self {
        let quiet = Handle::current();
        let each = u64::try_from(quiet.metrics().num_workers()).unwrap_or(1).max(1);
        let (tasks, stop, open) = (TaskTracker::new(), CancellationToken::new(), Mutex::default());
        let running = stop.clone().drop_guard();
        let shared = Arc::new(Shared { quiet, crowd, tasks, stop, each, open, busy: Seldom::new(TOLD) });
        tokio::spawn(shared.clone().follow(drain.clone()));
        Self { shared, _running: running }
    }

    /// Has `newcomer` begin when it is `party`'s turn. `number` tells its connections apart.
    pub(super) fn begin(&self, party: Party, number: u64, newcomer: Box<dyn Newcomer>) {
        let slot = (party, number % self.shared.each);
        let mut open = self.shared.open();
        let (group, is_new) = match open.entry(slot) {
            Entry::Occupied(group) => (group.get().clone(), false),
            Entry::Vacant(place) => (place.insert(Group::new()).clone(), true),
        };
        group.waiting().newcomers.push_back(newcomer); // under the lock: no group ends with somebody in it
        drop(open);
        if is_new {
            Run::new(self.shared.clone(), slot, group).start();
        } else {
            group.0.task.wake();
        }
    }

    /// Lets go of all who have left before their turn.
    pub(super) fn purge(&self) {
        let open = self.shared.open(); // so that no group ends with somebody outside it
        for group in open.values() {
            let mut came = std::mem::take(&mut group.waiting().newcomers);
            // Not waited for: its turn looks at it as well.
            if let Ok(mut line) = group.0.line.try_lock() {
                line.let_in(&mut came);
                line.purge(|newcomer| newcomer.has_left());
            } else {
                came.append(&mut group.waiting().newcomers);
                group.waiting().newcomers = came;
            }
        }
    }

    /// Returns once all have ended.
    pub(super) async fn ended(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    async fn follow(self: Arc<Self>, drain: Drain) {
        let stop = self.stop.clone();
        let phases = async {
            drain.begun().await;
            self.wake_all();
            drain.forced().await;
            self.wake_all();
        };
        stop.run_until_cancelled(phases).await;
    }

    fn wake_all(&self) {
        for group in self.open().values() {
            group.0.all.store(true, Ordering::Release);
            group.0.task.wake();
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Slot, Group>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn new() -> Self {
        let line = Mutex::new(Line::new());
        let all = AtomicBool::new(false);
        Self(Arc::new(Inbox { waiting: Mutex::default(), line, all, task: AtomicWaker::new() }))
    }

    fn line(&self) -> MutexGuard<'_, Line<Box<dyn Newcomer>>> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in the same group until it ends or what is returned is dropped.
    pub(super) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) -> Beside {
        let (work, handle) = abortable(work);
        self.waiting().beside.push(Box::pin(async move { work.await.unwrap_or_default() }));
        self.0.task.wake();
        Beside(handle)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of few: what begins them bounds how many there are.
impl<F: FnOnce(&Group) -> Job + Send> Newcomer for F {
    fn has_left(&self) -> bool {
        false
    }

    fn begin(self: Box<Self>, group: &Group) -> Option<Job> {
        Some(self(group))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
