//! What is kept of messages whose end has not come: counted for each caller's account, and only for so long.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use spiffe_bridge::node::{Account, Caller};
use tokio::time::Sleep;

/// Shorter messages are not counted: a stream costs more than that anyway.
pub(crate) const SMALL: usize = 4096;
/// From the first byte of a message to its last. Envoy writes one at once.
const TIME: Duration = Duration::from_secs(10);

/// Bytes of unfinished messages, of all streams. Half of the room is the most that one account takes. Invariant 11.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_account: HashMap<Account, usize>,
}

/// Room for one message, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Room,
    account: Account,
    bytes: usize,
}

/// Why an unfinished message is not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfinished {
    #[error("too many requests that are not whole yet: send each at once")]
    NoRoom,
    #[error("a request was not whole after {} s: send it at once", TIME.as_secs())]
    TooSlow,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Shared { bytes, taken: Mutex::default() }))
    }

    pub(crate) fn take(&self, account: Account, bytes: usize) -> Option<Place> {
        let mut taken = self.taken();
        let of_account = taken.by_account.get(&account).copied().unwrap_or_default() + bytes;
        if taken.all + bytes > self.0.bytes || of_account > self.0.bytes / 2 {
            return None;
        }
        taken.all += bytes;
        taken.by_account.insert(account.clone(), of_account);
        drop(taken);
        Some(Place { room: self.clone(), account, bytes })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// How many bytes it is for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= self.bytes;
        if let Some(of_account) = taken.by_account.get_mut(&self.account) {
            *of_account -= self.bytes;
            if *of_account == 0 {
                taken.by_account.remove(&self.account);
            }
        }
    }
}

/// The unfinished message of one stream.
#[derive(Debug)]
pub(super) struct Partial {
    place: Option<Place>,
    deadline: Pin<Box<Sleep>>,
}

impl Partial {
    /// A message of `bytes`, of which some have come.
    pub(super) fn begin(room: &Room, caller: &Caller, bytes: usize) -> Result<Self, Unfinished> {
        let mut partial = Self { place: None, deadline: Box::pin(tokio::time::sleep(TIME)) };
        partial.grow(room, caller, bytes).map(|()| partial)
    }

    /// Its length is known now to be `bytes`.
    pub(super) fn grow(&mut self, room: &Room, caller: &Caller, bytes: usize) -> Result<(), Unfinished> {
        if bytes > SMALL && self.place.is_none() {
            self.place = Some(room.take(caller.account(), bytes).ok_or(Unfinished::NoRoom)?);
        }
        Ok(())
    }

    pub(super) fn check(&mut self, cx: &mut Context<'_>) -> Result<(), Unfinished> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(Unfinished::TooSlow),
            Poll::Pending => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_takes_half_of_the_room_and_gives_it_back() {
        let room = Room::new(100);
        let take = |uid, bytes| room.take(Account::User(uid), bytes);
        let first = take(1, 50).unwrap();
        assert!(take(1, 1).is_none(), "half is the most");
        let second = take(2, 50).unwrap();
        assert!(take(3, 1).is_none(), "full");
        drop(first);
        assert!(take(3, 1).is_some());
        drop(second);
        let taken = room.taken();
        assert_eq!((taken.all, taken.by_account.len()), (0, 0));
    }
}
