//! The handle on the roster, and the task that makes it durable.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::HolderKey;
use super::book::{Book, Config, Dirty};
use super::leaving::{Leaver, Stays};
use super::missing::{Answer, Enough, Wanted};
use super::record;
use super::standing::{NameRow, Report};
use crate::clock::{Clock, Timestamp};
use crate::identity::Version;
use crate::store::{Store, StoreError, Transaction, Write};

/// Changes of so long share one write. What a crash takes of them is accounted for by `unaccounted_until`.
const COALESCE: Duration = Duration::from_secs(1);
/// How often members that are away are looked at.
const SWEEP: Duration = Duration::from_secs(10);
/// Records of one transaction: others write too, and one has at most 16 MB.
const BATCH: usize = 4096;

/// Why the roster could not be opened or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RosterError {
    /// The store failed.
    #[error("the roster is not available")]
    Store(#[from] StoreError),
}

/// Who holds what. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Roster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    changed: Notify,
    store: Store,
    clock: Clock,
}

/// The task that writes, and lets those go who hold nothing any more.
#[derive(Debug)]
pub struct Keeper(Roster);

/// The roster, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RosterStatus {
    /// Members.
    pub members: usize,
    /// Those that have an open stream.
    pub connected: usize,
    /// Those that tell their counters.
    pub with_statistics: usize,
    /// Names of all members.
    pub names: usize,
    /// Reports that found no place since the start.
    pub turned_away: u64,
    /// Until when somebody may hold a certificate of whom nothing is known.
    pub unaccounted_until: Option<Timestamp>,
}

/// The roster in `store`. `issued_until` is the end of the last certificate that was ever reserved to be signed: if the
/// roster was not closed, somebody may hold one until then of whom it knows nothing.
///
/// To be called before anything is sent, and durable then: from here on the roster is open.
///
/// # Errors
/// [`RosterError`] if the store cannot be read or written.
pub async fn open(
    config: Config,
    store: Store,
    issued_until: Option<Timestamp>,
    clock: Clock,
) -> Result<(Roster, Keeper), RosterError> {
    let (members, unreadable) = record::load(&store)?;
    let was_closed = store.get(record::CLOSED)?.is_some();
    let now = clock.now();
    let mut book = Book::new(config, now);
    members.into_iter().for_each(|(key, member)| book.restore(key, member));
    if !was_closed || unreadable > 0 {
        book.unaccounted_until = issued_until.filter(|end| *end + book.config.skew >= now);
    }
    if unreadable > 0 {
        tracing::warn!(
            unreadable,
            "records of the roster cannot be read: whoever they are of is unaccounted for"
        );
    }
    let writes = vec![Write::Delete { key: record::CLOSED.to_vec() }];
    store.transact(Transaction { compares: Vec::new(), writes }).await?;
    let roster = Roster(Arc::new(Shared { book: Mutex::new(book), changed: Notify::new(), store, clock }));
    Ok((roster.clone(), Keeper(roster)))
}

impl Roster {
    /// Takes in what is known of a holder. Who has no entry is not to be reported.
    pub fn report(&self, report: Report) {
        let now = self.0.clock.now();
        let mut book = self.book();
        let complete = book.report(report, now);
        let is_dirty = !book.dirty.is_empty();
        drop(book);
        if !complete {
            metrics::counter!("countersign_roster_turned_away_total").increment(1);
        }
        if is_dirty {
            self.0.changed.notify_one();
        }
    }

    /// The member that would go if it were [let go](Self::leave).
    ///
    /// # Errors
    /// [`Stays`] says why it may not.
    pub fn leaving(&self, holder: &HolderKey) -> Result<Leaver, Stays> {
        let leaver = self.book().leaver(holder)?;
        // Cut off but alive, it still counts, and when it comes back more than that is known of it than of a new one.
        let is_alive = matches!(holder, HolderKey::Process(_)) && !holder.is_gone();
        if is_alive { Err(Stays::Alive) } else { Ok(leaver) }
    }

    /// Lets a member go of whom an operator says that it holds nothing any more.
    ///
    /// # Errors
    /// [`Stays`] says why it may not.
    pub fn leave(&self, holder: &HolderKey) -> Result<(), Stays> {
        self.leaving(holder)?;
        let mut book = self.book();
        book.leaver(holder)?; // it may have come back meanwhile
        book.leave(holder, self.0.clock.now());
        drop(book);
        self.0.changed.notify_one();
        Ok(())
    }

    /// What is known of one holder's names.
    #[must_use]
    pub fn names_of(&self, holder: &HolderKey) -> Vec<(Box<str>, NameRow)> {
        let book = self.book();
        let names = book.members.get(holder).into_iter().flat_map(|member| &member.names);
        names.map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    /// Whether a member tells its counters.
    #[must_use]
    pub fn has_statistics(&self, holder: &HolderKey) -> bool {
        self.book().members.get(holder).is_some_and(|member| member.statistics)
    }

    /// Whether the holder is a member.
    #[must_use]
    pub fn knows(&self, holder: &HolderKey) -> bool {
        self.book().members.contains_key(holder)
    }

    /// Whether nobody can hold anything of whom it knows nothing.
    #[must_use]
    pub fn has_all(&self) -> bool {
        let book = self.book();
        book.unaccounted_until.is_none() && book.turned_away == 0
    }

    /// Who does not hold the `wanted` version of `name`, also of those who are away.
    #[must_use]
    pub fn missing(&self, name: &str, wanted: Wanted, enough: Enough) -> Answer {
        self.book().missing(name, wanted, enough)
    }

    /// The newest version of `name` that anybody was sent.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<Version> {
        self.book().newest(name)
    }

    /// The roster, counted.
    #[must_use]
    pub fn status(&self) -> RosterStatus {
        let book = self.book();
        RosterStatus {
            members: book.members.len(),
            connected: book.members.values().filter(|member| member.is_connected).count(),
            with_statistics: book.members.values().filter(|member| member.statistics).count(),
            names: book.names(),
            turned_away: book.turned_away,
            unaccounted_until: book.unaccounted_until,
        }
    }

    /// Writes what is left, and that nothing is missing. To be called when nothing is sent any more.
    ///
    /// # Errors
    /// [`RosterError`] if the store cannot be written; the next start then knows that something may be missing.
    pub async fn close(&self) -> Result<(), RosterError> {
        self.write().await?;
        // What is unaccounted for stays so: the next start asks again.
        if self.book().unaccounted_until.is_none() {
            let writes = vec![Write::Put { key: record::CLOSED.to_vec(), value: vec![1] }];
            self.0.store.transact(Transaction { compares: Vec::new(), writes }).await?;
        }
        Ok(())
    }

    async fn write(&self) -> Result<(), RosterError> {
        loop {
            let (taken, writes) = self.take_dirty();
            if writes.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.0.store.transact(Transaction { compares: Vec::new(), writes }).await {
                self.book().dirty.extend(taken); // they are written with the next ones
                return Err(error.into());
            }
        }
    }

    fn take_dirty(&self) -> (Vec<Dirty>, Vec<Write>) {
        let mut book = self.book();
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some(dirty) = book.dirty.pop_first()
        {
            taken.push(dirty);
        }
        let write = |dirty: &Dirty| match dirty {
            Dirty::Member(key) => record::write_member(key, book.members.get(key)),
            Dirty::Name(key, name) => {
                let row = book.members.get(key).and_then(|member| member.names.get(name));
                record::write_name(key, name, row)
            }
        };
        let writes = taken.iter().map(write).collect();
        (taken, writes)
    }

    fn sweep(&self) {
        let now = self.0.clock.now();
        // Asking /proc is not done under the lock.
        let away: Vec<HolderKey> = {
            let book = self.book();
            book.members.iter().filter(|(_, m)| !m.is_connected).map(|(key, _)| key.clone()).collect()
        };
        let gone: std::collections::HashSet<HolderKey> =
            away.into_iter().filter(HolderKey::is_gone).collect();
        let left = self.book().expire(now, |key| gone.contains(key));
        if left > 0 {
            tracing::debug!(left, "members left the roster");
        }
        let status = self.status();
        metrics::gauge!("countersign_roster_members").set(status.members as f64);
        metrics::gauge!("countersign_roster_unaccounted").set(if status.unaccounted_until.is_some() {
            1.0
        } else {
            0.0
        });
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Runs until `drain` is cancelled.
    ///
    /// # Errors
    /// Never: a write that fails is tried again with the next.
    pub async fn run(self, drain: CancellationToken) -> Result<(), Infallible> {
        let Self(roster) = self;
        let clock = &roster.0.clock;
        let mut sweep = clock.now() + SWEEP;
        loop {
            let is_due = tokio::select! {
                () = drain.cancelled() => return Ok(()),
                () = roster.0.changed.notified() => false,
                () = clock.sleep_until(sweep) => true,
            };
            if is_due {
                sweep = clock.now() + SWEEP;
                roster.sweep();
            }
            tokio::select! {
                () = drain.cancelled() => return Ok(()),
                () = clock.sleep_until(clock.now() + COALESCE) => {}
            }
            if let Err(error) = roster.write().await {
                tracing::warn!(%error, "the roster could not be written; it is tried again");
            }
        }
    }
}
