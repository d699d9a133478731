//! Where the newcomers of a group come in: from threads that accept, to the task that takes its turns.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::super::acceptor;
use super::line::Line;
use super::{Group, Newcomer};

/// One for each who may be interrupted in one: the threads that accept, and the group's task.
const LANES: usize = acceptor::THREADS + 1;
/// Room for so many is kept: of whom so many come at one time others will.
const KEPT: usize = 64;

/// Of one group.
pub(super) struct Entrance<N> {
    group: Group,
    /// Who came by whichever was free. Nobody stays here long.
    lanes: [Mutex<VecDeque<N>>; LANES],
    /// Of the group's turn, but for a purge.
    inside: Mutex<Inside<N>>,
}

struct Inside<N> {
    line: Line<N>,
    /// Empty: the room that whoever comes next is given.
    room: VecDeque<N>,
}

impl<N> Default for Entrance<N> {
    fn default() -> Self {
        let inside = Inside { line: Line::new(), room: VecDeque::new() };
        Self { group: Group::default(), lanes: Default::default(), inside: Mutex::new(inside) }
    }
}

impl<N: Newcomer> Entrance<N> {
    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn enter(&self, newcomer: N) {
        let free = self.lanes.iter().find_map(|lane| match lane.try_lock() {
            Ok(lane) => Some(lane),
            Err(TryLockError::Poisoned(lane)) => Some(lane.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        free.unwrap_or_else(|| locked(&self.lanes[0])).push_back(newcomer);
    }

    /// Has all who came stand in the line.
    pub(super) fn let_in(&self) {
        self.inside().let_in(&self.lanes);
    }

    /// Lets go of some who have left, if many stand in the line.
    pub(super) fn look(&self) {
        self.inside().line.look(Newcomer::has_left);
    }

    /// Who has waited longest.
    pub(super) fn next(&self) -> Option<N> {
        self.inside().line.next()
    }

    /// Whether nobody waits. Whether somebody comes is not known then, but to who holds the lock of all groups.
    pub(super) fn is_empty(&self) -> bool {
        self.inside().line.is_empty() && self.lanes.iter().all(|lane| locked(lane).is_empty())
    }

    /// Lets go of all who have left. Not waited for: the group's turn looks at them as well.
    pub(super) fn purge(&self) {
        if let Ok(mut inside) = self.inside.try_lock() {
            inside.let_in(&self.lanes);
            inside.line.purge(Newcomer::has_left);
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside<N>> {
        locked(&self.inside)
    }
}

impl<N> Inside<N> {
    /// All of a lane are taken at once, and it is let go of before anything is done with them.
    fn let_in(&mut self, lanes: &[Mutex<VecDeque<N>>]) {
        for lane in lanes {
            let mut room = std::mem::take(&mut self.room);
            std::mem::swap(&mut *locked(lane), &mut room);
            self.line.let_in(&mut room);
            if room.capacity() >= KEPT {
                self.room = room;
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
