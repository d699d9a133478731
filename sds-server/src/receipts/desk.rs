//! Joins what comes to whom it is of, and tells the roster. The one place that knows clients, counters and roster.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::identity::WorkloadUpdate;
use spiffe_bridge::node::{Account, Session};
use spiffe_bridge::roster::{HolderKey, Means, Presence, Report, Roster, Standing};

use super::ledger::Ledger;
use super::metrics::Refused;
use super::observation::Observation;
use super::tracker::Life;
use crate::runtime::Drain;
use crate::sds::partial::{Place, Room};
use crate::sds::{Look, Proxies, Proxy};

/// How soon the roster learns of what is told by answers alone.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at what is idle.
const SWEEP: u32 = 10;
/// Bytes of last flushes, of all clients; those of one account have at most half. An Envoy with two secrets keeps 0.5 KB,
/// one with 1,000 about 300 KB. Who finds no room is acknowledged only. Invariant 11.
const KEPT: usize = 256 << 20;
/// Flushes that a client may send at once, and in a second: Envoy's own default is one in five seconds.
const BURST: f64 = 20.0;
const RATE: f64 = 10.0;

/// The books of all clients. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    proxies: Proxies,
    roster: Roster,
    clock: Clock,
    room: Room,
    books: Arc<Mutex<HashMap<HolderKey, Arc<Mutex<Book>>>>>,
}

/// The book of one client, and what of it was reported.
#[derive(Debug)]
struct Book {
    ledger: Ledger,
    kept: Option<Place>,
    allowance: Allowance,
    reported: Option<Facts>,
}

/// What the roster was told of the client beside its names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    identities: Vec<Box<str>>,
    not_after: Option<Timestamp>,
    statistics: bool,
    presence: Presence,
}

/// How many flushes a client may still send.
#[derive(Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * RATE).min(BURST);
        self.at = now;
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }
}

impl Desk {
    /// A desk that keeps books of `proxies` and tells `roster`.
    #[must_use]
    pub fn new(proxies: Proxies, roster: Roster, clock: Clock) -> Self {
        Self { proxies, roster, clock, room: Room::new(KEPT), books: Arc::default() }
    }

    /// Keeps no book of `holder` any more, who left the roster: should it come back, all of it is reported anew.
    pub fn forget(&self, holder: &HolderKey) {
        lock(&self.books).remove(holder);
    }

    /// Whether a flush of the caller of `session` may be read.
    pub(super) fn admits(&self, session: &Session) -> Result<Option<Arc<Proxy>>, Refused> {
        // Whoever has no stream is told nothing by us: what it says of itself proves nothing, and is not kept.
        // Nor is that of remote callers: several may come with one certificate, and whose counters these are is not known.
        let of_process = session.holder().filter(|holder| matches!(holder, HolderKey::Process(_)));
        let Some(proxy) = of_process.and_then(|holder| self.proxies.find(holder)) else { return Ok(None) };
        let book = self.book(&proxy);
        let mut book = lock(&book);
        if book.allowance.take(Instant::now()) { Ok(Some(proxy)) } else { Err(Refused::Rate) }
    }

    /// A flush of `proxy` came over the connection of `session`.
    pub(super) fn flushed(
        &self,
        proxy: &Arc<Proxy>,
        session: &Session,
        seen: Observation,
    ) -> Result<(), Refused> {
        let book = self.book(proxy);
        {
            let book = lock(&book);
            if !proxy.is_touched() && book.ledger.has_statistics() && book.ledger.has_seen(&seen) {
                return Ok(()); // nine of ten: nothing happened
            }
        }
        // A program that inherited the connection is another caller: its counters are not of these pushes.
        session.verify().map_err(|_| Refused::Session)?;
        self.settle(proxy, &mut lock(&book), Some(seen));
        Ok(())
    }

    /// Looks at every client to whom something happened, until the drain.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self, drain: Drain) -> Result<(), Infallible> {
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                () = drain.begun() => return Ok(()),
                () = tokio::time::sleep(TICK) => {}
            }
            self.look();
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(SWEEP) {
                self.sweep();
            }
        }
    }

    /// Looks at every client to whom something happened since the last look. To be called once more when all streams
    /// have ended.
    pub fn look(&self) {
        for proxy in self.proxies.take_touched() {
            if proxy.is_touched() {
                let book = self.book(&proxy);
                self.settle(&proxy, &mut lock(&book), None);
            }
        }
    }

    fn sweep(&self) {
        for holder in self.proxies.sweep() {
            lock(&self.books).remove(&holder);
        }
        let books: Vec<_> = lock(&self.books).iter().map(|(key, book)| (key.clone(), book.clone())).collect();
        for (holder, book) in books {
            let mut book = lock(&book);
            match self.proxies.find(&holder) {
                Some(proxy) if book.ledger.waits() => self.settle(&proxy, &mut book, None),
                Some(_) => {}
                None => drop(lock(&self.books).remove(&holder)),
            }
        }
    }

    fn book(&self, proxy: &Proxy) -> Arc<Mutex<Book>> {
        let mut books = lock(&self.books);
        if let Some(book) = books.get(proxy.holder()) {
            return book.clone();
        }
        let life = if proxy.is_new() { Life::Whole } else { Life::Unknown };
        let ledger = Ledger::new(life, self.roster.names_of(proxy.holder()));
        let allowance = Allowance { left: BURST, at: Instant::now() };
        let book = Arc::new(Mutex::new(Book { ledger, kept: None, allowance, reported: None }));
        books.insert(proxy.holder().clone(), book.clone());
        book
    }

    fn settle(&self, proxy: &Arc<Proxy>, book: &mut Book, flush: Option<Observation>) {
        let has_flush = flush.is_some();
        let look = proxy.look();
        let settled = book.ledger.settle(&look, flush, self.clock.now());
        if has_flush {
            self.make_room(proxy, book);
        }
        for (name, row) in &settled.changed {
            super::metrics::stands(row.standing);
            if (row.standing, row.means) == (Standing::PossiblyApplied, Means::Statistics)
                && !row.refusals.is_empty()
            {
                let (holder, version) = (proxy.holder(), row.version);
                tracing::warn!(%holder, name = &**name, %version, "a secret is in use in some places of this client and refused in others");
            }
        }
        for (name, content, times) in settled.redress {
            tracing::info!(holder = %proxy.holder(), name = &*name, times, "sent again in other bytes");
            proxy.redress(&name, content, times);
        }
        let Some(facts) = facts(&look, book) else { return };
        if settled.changed.is_empty() && settled.dropped.is_empty() && book.reported.as_ref() == Some(&facts)
        {
            return;
        }
        book.reported = Some(facts.clone());
        let Facts { identities, not_after, statistics, presence } = facts;
        let uid = match proxy.account() {
            Account::User(uid) => Some(*uid),
            Account::Certificate(_) => None,
        };
        self.roster.report(Report {
            holder: proxy.holder().clone(),
            uid,
            identities,
            not_after,
            statistics,
            presence,
            names: settled.changed,
            dropped: settled.dropped,
        });
    }

    /// Finds room for what is kept of the flush, or keeps nothing.
    fn make_room(&self, proxy: &Proxy, book: &mut Book) {
        let bytes = book.ledger.bytes();
        if book.kept.as_ref().is_some_and(|place| place.bytes() == bytes) {
            return;
        }
        book.kept = None; // first given back
        book.kept = self.room.take(proxy.account().clone(), bytes);
        if book.kept.is_none() {
            book.ledger.forget();
        }
    }
}

/// What is known of a client; `None` of one that no entry gives anything, and never did: it is no member.
fn facts(look: &Look, book: &Book) -> Option<Facts> {
    if book.reported.is_none() && !book.ledger.has_names() {
        return None; // nothing was sent to it yet
    }
    let presence = if look.streams > 0 { Presence::Connected } else { Presence::Away };
    let statistics = book.ledger.has_statistics();
    let given = look.update.as_deref().filter(|update| update.bundle.is_some());
    match (given, &book.reported) {
        (Some(update), _) => {
            // Who asks for roots alone only verifies: there is no certificate whose end would be its own.
            let not_after = if book.ledger.holds_certificate() { last_end(update) } else { None };
            Some(Facts { identities: identities(update), not_after, statistics, presence })
        }
        (None, Some(before)) => Some(Facts { statistics, presence, ..before.clone() }),
        (None, None) => None,
    }
}

fn identities(update: &WorkloadUpdate) -> Vec<Box<str>> {
    update.identities.iter().map(|identity| identity.svid.spiffe_id.to_string().into()).collect()
}

/// Of all that it may have been given, whatever it asked for.
fn last_end(update: &WorkloadUpdate) -> Option<Timestamp> {
    update.identities.iter().map(|identity| identity.svid.not_after).max()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
