//! The names of a stream: which it asks for, and those that it is told of and then forgotten.

use std::collections::BTreeSet;

use spiffe_bridge::node::Want;

use super::{REMOVED_BYTES, Subscription};
use crate::sds::names::{MAX_NAME_BYTES, Name};
use crate::sds::request::{Names, Refusal};
use crate::sds::slot::{Due, Slot};

/// The longest version: revision, dash and hash in hexadecimal.
const MAX_VERSION_BYTES: usize = 64;

impl Subscription {
    /// The tokens among its names.
    pub(in crate::sds) fn audiences(&self) -> BTreeSet<Want> {
        let tokens = self.slots.iter().filter(|slot| slot.name.starts_with("jwt:"));
        tokens
            .filter_map(|slot| match Name::parse(&slot.name)? {
                Name::Token { audience } => Some(Want::Jwt(audience.into())),
                _ => None,
            })
            .collect()
    }

    /// Whether `names` ask for something that this stream has not been asked before, or once more.
    #[must_use]
    pub(in crate::sds) fn is_news(&self, names: &Names) -> bool {
        match names {
            Names::All(names) => {
                let known =
                    |name: &String| self.slots.binary_search_by(|slot| (*slot.name).cmp(name)).is_ok();
                !names.iter().all(known)
            }
            Names::Change { subscribe, .. } => !subscribe.is_empty(),
        }
    }

    /// Bytes that its names take, with what is kept of each.
    pub(in crate::sds) fn name_bytes(&self) -> usize {
        let slots = self.slots.iter().map(|slot| size_of::<Slot>() + slot.name.len());
        let unheld = self.unheld.iter().map(|name| size_of::<Box<str>>() + name.len());
        slots.chain(unheld).sum()
    }

    /// SotW: the list replaces the one before it (XD-09); an empty one ends them all (XD-14).
    pub(super) fn replace(&mut self, mut names: Vec<String>) -> Result<(), Refusal> {
        names.retain(|name| name.len() <= MAX_NAME_BYTES && name != "*"); // can mean nothing, not remembered
        names.sort_unstable();
        names.dedup(); // XD-18
        if names.len() > self.max_names {
            return Err(Refusal::TooManyNames { max: self.max_names });
        }
        if names.iter().map(String::as_str).eq(self.slots.iter().map(|slot| &*slot.name)) {
            return Ok(()); // an ACK
        }
        let mut old = std::mem::take(&mut self.slots).into_iter().peekable();
        self.slots.reserve_exact(names.len());
        for name in names {
            while old.next_if(|slot| *slot.name < *name).is_some() {}
            let slot = old.next_if(|slot| *slot.name == *name);
            self.slots.push(slot.unwrap_or_else(|| Slot::new(name.into()))); // XD-12
        }
        self.look_again();
        Ok(())
    }

    pub(super) fn drop_all_but(&mut self, mut names: Vec<String>) {
        names.sort_unstable();
        self.slots.retain(|slot| names.binary_search_by(|name| name.as_str().cmp(&slot.name)).is_ok());
        self.look_again();
    }

    pub(super) fn unsubscribe(&mut self, mut names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        names.sort_unstable();
        let listed = |name: &str| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
        if listed("*") {
            self.wildcard = false;
        }
        // XD-16: it would still be held by `*`, and by that we have nothing. XD-17: other names are no error.
        for slot in self.slots.extract_if(.., |slot| listed(&slot.name)) {
            if self.wildcard {
                self.unheld.push(slot.name);
            }
        }
        self.look_again();
    }

    pub(super) fn subscribe(
        &mut self,
        mut names: Vec<String>,
        held: Vec<(String, String)>,
    ) -> Result<(), Refusal> {
        if names.is_empty() {
            return Ok(()); // XD-15: not a wildcard
        }
        names.sort_unstable();
        names.dedup(); // XD-18
        let mut fresh = Vec::new();
        for name in names {
            if name == "*" {
                self.wildcard = true;
            } else if name.len() > MAX_NAME_BYTES {
                self.unheld.push(name.into()); // can mean nothing: answered, not remembered
            } else if let Ok(at) = self.slots.binary_search_by(|slot| (*slot.name).cmp(&name)) {
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.due = Due::Now; // XD-13
                }
            } else if self.slots.len() + fresh.len() >= self.max_names {
                return Err(Refusal::TooManyNames { max: self.max_names }); // which ends the stream
            } else {
                fresh.push(Slot::new(name.into()));
            }
        }
        for (name, version) in held {
            // A longer one is none of ours, and not kept.
            if version.len() <= MAX_VERSION_BYTES
                && let Ok(at) = fresh.binary_search_by(|slot| (*slot.name).cmp(&name))
                && let Some(slot) = fresh.get_mut(at)
            {
                slot.due = Due::Claimed(version.into());
            }
        }
        self.slots.reserve_exact(fresh.len());
        self.slots.append(&mut fresh);
        self.slots.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.look_again();
        Ok(())
    }

    /// The next list of names that are not available and not remembered; each once (XD-18), and none that has
    /// been subscribed again since.
    pub(super) fn take_unheld(&mut self) -> Option<Vec<Box<str>>> {
        let mut names = std::mem::take(&mut self.unheld);
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.slots.binary_search_by(|slot| slot.name.cmp(name)).is_err());
        let mut bytes = 0;
        let fits = names.iter().take_while(|name| {
            bytes += name.len() + 8;
            bytes <= REMOVED_BYTES
        });
        let count = fits.count().max(1).min(names.len());
        self.unheld = names.split_off(count);
        (!names.is_empty()).then_some(names)
    }
}
