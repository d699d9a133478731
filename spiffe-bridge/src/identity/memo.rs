//! A place where a consumer keeps what it derived from a value, so that it is derived once for all.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What was derived from the value that this memo sits in, by name. It dies with that value.
///
/// `sds-server` keeps the encoded Secret here: ten thousand streams share one encoding, and there is
/// no cache to bound or to empty. At most [`Memo::CAPACITY`] names are kept; more are computed anew.
#[derive(Default)]
pub struct Memo(Mutex<Vec<Derived>>);

/// A name and what was derived under it.
type Derived = (Box<str>, Arc<dyn Any + Send + Sync>);

impl Memo {
    /// The names under which one value is served are few: `default` and its own.
    pub const CAPACITY: usize = 8;

    /// What is kept under `name`, else what `derive` makes, which is then kept.
    pub fn get_or_derive<T: Any + Send + Sync>(&self, name: &str, derive: impl FnOnce() -> T) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(n, _)| **n == *name).map(|(_, value)| value.clone());
        if let Some(Ok(value)) = found.map(Arc::downcast::<T>) {
            return value;
        }
        let value = Arc::new(derive());
        if kept.len() < Self::CAPACITY {
            kept.push((name.into(), value.clone()));
        }
        value
    }
}

/// An empty one: what was derived belongs to the value that it was derived from, and a copy may be changed.
impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_derived_once_a_name() {
        let memo = Memo::default();
        let first = memo.get_or_derive("a", || String::from("x"));
        let second = memo.get_or_derive("a", || -> String { unreachable!() });
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(*memo.get_or_derive("b", || String::from("y")), "y");
    }
}
