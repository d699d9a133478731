//! What is kept of messages whose end has not come: counted for each user, and only for so long.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// Shorter messages are not counted: a stream costs more than that anyway.
pub(crate) const SMALL: usize = 4096;
/// From the first byte of a message to its last. Envoy writes one at once.
const TIME: Duration = Duration::from_secs(10);

/// Bytes of unfinished messages, of all streams. Half of the room is the most that one user takes. Invariant 11.
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
    by_uid: HashMap<u32, usize>,
}

/// Room for one message, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Room,
    uid: u32,
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

    pub(crate) fn take(&self, uid: u32, bytes: usize) -> Option<Place> {
        let mut taken = self.taken();
        let of_user = taken.by_uid.get(&uid).copied().unwrap_or_default() + bytes;
        if taken.all + bytes > self.0.bytes || of_user > self.0.bytes / 2 {
            return None;
        }
        taken.all += bytes;
        taken.by_uid.insert(uid, of_user);
        drop(taken);
        Some(Place { room: self.clone(), uid, bytes })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// How many bytes it is for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= self.bytes;
        if let Some(of_user) = taken.by_uid.get_mut(&self.uid) {
            *of_user -= self.bytes;
            if *of_user == 0 {
                taken.by_uid.remove(&self.uid);
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
    pub(super) fn begin(room: &Room, uid: u32, bytes: usize) -> Result<Self, Unfinished> {
        let mut partial = Self { place: None, deadline: Box::pin(tokio::time::sleep(TIME)) };
        partial.grow(room, uid, bytes).map(|()| partial)
    }

    /// Its length is known now to be `bytes`.
    pub(super) fn grow(&mut self, room: &Room, uid: u32, bytes: usize) -> Result<(), Unfinished> {
        if bytes > SMALL && self.place.is_none() {
            self.place = Some(room.take(uid, bytes).ok_or(Unfinished::NoRoom)?);
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
    fn a_user_takes_half_of_the_room_and_gives_it_back() {
        let room = Room::new(100);
        let first = room.take(1, 50).unwrap();
        assert!(room.take(1, 1).is_none(), "half is the most");
        let second = room.take(2, 50).unwrap();
        assert!(room.take(3, 1).is_none(), "full");
        drop(first);
        assert!(room.take(3, 1).is_some());
        drop(second);
        let taken = room.taken();
        assert_eq!((taken.all, taken.by_uid.len()), (0, 0));
    }
}
