//! What is told of a panic, which is a fault of the server wherever it comes from: its place, once.
//!
//! A caller who has found one may cause it as often as it likes. And the message may hold what the code had at hand: of text
//! that was cut at the wrong place, the text. So it is not told.

use std::collections::BTreeSet;
use std::panic::{Location, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

/// Places that are told; a server that panics in more of them has told enough.
const PLACES: usize = 64;

/// Places that were told, by file, line and column.
#[derive(Debug, Default)]
struct Places(Mutex<BTreeSet<(String, u32, u32)>>);

impl Places {
    /// Whether `place` was not told yet.
    fn is_new(&self, place: &Location<'_>) -> bool {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.len() < PLACES && places.insert((place.file().to_owned(), place.line(), place.column()))
    }
}

/// Installs the process's panic hook, in place of the one that prints each to standard error.
pub fn install() {
    let places = Places::default();
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        if let Some(place) = panic.location()
            && places.is_new(place)
        {
            let thread = std::thread::current();
            let advice =
                "this is a fault of the server: please report it. It is not told again of this place";
            tracing::error!(%place, thread = thread.name(), advice, "panicked");
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_once_and_not_without_end() {
        let places = Places::default();
        let told = |place: &Location<'_>| places.is_new(place);
        let (here, there) = (Location::caller(), std::panic::Location::caller());
        assert_eq!([told(here), told(here), told(there), told(there)], [true, false, true, false]);
        let full = BTreeSet::from_iter((0..64).map(|line| ("file".to_owned(), line, 1)));
        assert!(!Places(Mutex::new(full)).is_new(here));
    }
}
