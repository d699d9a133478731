//! A turn for each caller: what runs for the connections of one process shares a few tasks.
//!
//! The runtime gives its tasks turns, one after the other. Were each connection a task, a process with ten thousand of them
//! would have ten thousand turns between two of its neighbour's. So the tasks are by caller, and a turn is short: a caller
//! waits for one turn of each other that keeps the server busy, as it would if they kept the CPU busy themselves.
//!
//! ```text
//! accepted ─► Groups ─► one caller's Entrance ─► Line ─► seats ◄─ work beside a connection
//! ```
//!
//! A thread that serves a crowd may be interrupted for milliseconds while it has a lock. What the threads that accept share
//! with it they share for some instructions only, and there they neither allocate nor free what comes with a crowd: the
//! allocator has locks too.
//!
//! docs/decisions/0019-turns.md

mod credit;
mod entrance;
mod line;
mod run;

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
use credit::Ended;
use entrance::Entrance;
use run::Run;

/// A caller's turn is over after so long, and with what was begun by then.
pub(super) const TURN: Duration = Duration::from_micros(100);

/// So often at most the log tells of a caller that keeps the server busy.
const TOLD: Duration = Duration::from_mins(1);

/// What runs in a group.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What waits for its first turn.
pub(super) trait Newcomer: Send + 'static {
    /// Whether nobody waits for it any more.
    fn has_left(&self) -> bool;

    /// Its turn. `None` if it comes to nothing.
    fn begin(self, group: &Group) -> Option<Job>;
}

/// A newcomer of a door where few begin at one time.
pub(super) type First = Box<dyn FnOnce(&Group) -> Job + Send>;

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
pub(super) struct Groups<N> {
    shared: Arc<Shared<N>>,
    _running: DropGuard,
}

struct Shared<N> {
    /// Where groups run that do little, and those that do much.
    quiet: Handle,
    crowd: Option<Handle>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Tasks a caller: as many as can run at one time, so that one caller alone has all of the machine.
    each: u64,
    open: Mutex<HashMap<Slot, Arc<Entrance<N>>>>,
    ended: Mutex<Ended>,
    /// Lines of the log that callers can cause.
    busy: Seldom,
}

/// A task of a caller.
type Slot = (Party, u64);

/// What runs for one caller, or a part of it. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Group(Arc<Inbox>);

#[derive(Default)]
struct Inbox {
    /// Begun by what runs already.
    beside: Mutex<Vec<Job>>,
    /// Whether all of them are to be polled.
    all: AtomicBool,
    task: AtomicWaker,
}

/// Ends what it stands for when it is dropped.
pub(super) struct Beside(AbortHandle);

impl<N: Newcomer> Groups<N> {
    /// None yet. Needs a Tokio runtime, and has another for those that do much if there is a `crowd`. When `drain` begins
    /// and when it is forced, all that runs in them is polled: it need not wait for that by itself, ten thousand times.
    pub(super) fn new(crowd: Option<Handle>, drain: &Drain) -> Self {
        let quiet = Handle::current();
        let each = u64::try_from(quiet.metrics().num_workers()).unwrap_or(1).max(1);
        let (tasks, stop, open) = (TaskTracker::new(), CancellationToken::new(), Mutex::default());
        let (running, ended) = (stop.clone().drop_guard(), Mutex::new(Ended::new()));
        let shared =
            Arc::new(Shared { quiet, crowd, tasks, stop, each, open, ended, busy: Seldom::new(TOLD) });
        tokio::spawn(shared.clone().follow(drain.clone()));
        Self { shared, _running: running }
    }

    /// Has `newcomer` begin when it is `party`'s turn. `number` tells its connections apart.
    pub(super) fn begin(&self, party: Party, number: u64, newcomer: N) {
        let slot = (party, number % self.shared.each);
        let mut open = self.shared.open();
        let (entrance, is_new) = match open.entry(slot) {
            Entry::Occupied(entrance) => (entrance.get().clone(), false),
            Entry::Vacant(place) => (place.insert(Arc::default()).clone(), true),
        };
        entrance.enter(newcomer); // under the lock: no group ends with somebody in it
        drop(open);
        if is_new {
            Run::new(self.shared.clone(), slot, entrance).start();
        } else {
            entrance.group().0.task.wake();
        }
    }

    /// Lets go of all who have left before their turn.
    pub(super) fn purge(&self) {
        let open = self.shared.open(); // so that no group ends with somebody outside it
        open.values().for_each(|entrance| entrance.purge());
    }

    /// Returns once all have ended.
    pub(super) async fn ended(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl<N: Newcomer> Shared<N> {
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
        for entrance in self.open().values() {
            let Group(inbox) = entrance.group();
            inbox.all.store(true, Ordering::Release);
            inbox.task.wake();
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Slot, Arc<Entrance<N>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// Runs `work` in the same group until it ends or what is returned is dropped.
    pub(super) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) -> Beside {
        let (work, handle) = abortable(work);
        let work = Box::pin(async move { work.await.unwrap_or_default() });
        self.begun_beside().push(work);
        self.0.task.wake();
        Beside(handle)
    }

    fn begun_beside(&self) -> MutexGuard<'_, Vec<Job>> {
        self.0.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of few: what begins them bounds how many there are.
impl Newcomer for First {
    fn has_left(&self) -> bool {
        false
    }

    fn begin(self, group: &Group) -> Option<Job> {
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
