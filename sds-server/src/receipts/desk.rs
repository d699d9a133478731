//! Joins what comes to whom it is of, and tells the roster. The one place that knows clients, counters and roster.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::identity::WorkloadUpdate;
use spiffe_bridge::node::{Account, Session};
use spiffe_bridge::roster::{HolderKey, Means, Presence, Report, Roster, Standing};

use super::joined::{By, Hearing};
use super::ledger::Ledger;
use super::metrics::Refused;
use super::observation::Observation;
use super::tracker::Life;
use crate::runtime::{Drain, Seldom};
use crate::sds::partial::{Place, Room};
use crate::sds::{Look, Proxies, Proxy};

/// How soon the roster learns of what is told by answers alone.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at what is idle.
const SWEEP: u32 = 10;
/// Bytes of last flushes, of all clients; those of one account have at most half. An Envoy with two secrets keeps 0.5 KB,
/// one with 1,000 about 300 KB. Who finds no room is acknowledged only. Invariant 11.
const KEPT: usize = 256 << 20;
/// Flushes that are read of one Envoy: its own default is one in five seconds.
const FLUSHES: Pace = Pace { burst: 20.0, rate: 10.0 };
/// Flushes that are read of all Envoys with one certificate.
const ALL_FLUSHES: Pace = Pace { burst: 512.0, rate: 256.0 };
/// Looks at all streams of a client for what its flushes say: as many Envoys as may share a certificate, once each, and
/// then as many in a second as one Envoy may ask for.
const LOOKS: Pace = Pace { burst: 256.0, rate: 10.0 };
/// Lines of the log that clients can cause by what they refuse, all together.
const LINES: u32 = 100;
const LINES_EACH: Duration = Duration::from_secs(10);
/// Connections of one certificate whose pace is kept; more share one.
const PACED: usize = 1024;

/// The books of all clients. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    proxies: Proxies,
    roster: Roster,
    clock: Clock,
    room: Room,
    books: Arc<Mutex<HashMap<HolderKey, Arc<Mutex<Book>>>>>,
    log: Arc<Seldom>,
}

/// The book of one client, and what of it was reported.
#[derive(Debug)]
struct Book {
    ledger: Ledger,
    kept: Option<Place>,
    /// By connection; of a process there is one.
    flushes: BTreeMap<u64, Allowance>,
    all_flushes: Allowance,
    looks: Allowance,
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

/// How many at once, and how many in a second.
#[derive(Debug, Clone, Copy)]
struct Pace {
    burst: f64,
    rate: f64,
}

/// How many are left.
#[derive(Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Book {
    /// Whether another flush of `connection` is read.
    fn flushes(&mut self, connection: u64, now: Instant) -> bool {
        let is_known = self.flushes.contains_key(&connection) || self.flushes.len() < PACED;
        let connection = if is_known { connection } else { 0 };
        let allowance = self.flushes.entry(connection).or_insert_with(|| Allowance::full(FLUSHES, now));
        allowance.take(now, FLUSHES) && self.all_flushes.take(now, ALL_FLUSHES)
    }

    /// Keeps the pace of connections that have streams.
    fn retain(&mut self, look: &Look) {
        if self.flushes.len() > 1 {
            let open: BTreeSet<u64> = look.told.iter().map(|told| told.connection).collect();
            self.flushes.retain(|connection, _| open.contains(connection));
        }
    }
}

impl Allowance {
    fn full(pace: Pace, at: Instant) -> Self {
        Self { left: pace.burst, at }
    }

    fn take(&mut self, now: Instant, Pace { burst, rate }: Pace) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * rate).min(burst);
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
        let log = Arc::new(Seldom::several(LINES, LINES_EACH));
        Self { proxies, roster, clock, room: Room::new(KEPT), books: Arc::default(), log }
    }

    /// Keeps no book of `holder` any more, who left the roster: should it come back, all of it is reported anew.
    pub fn forget(&self, holder: &HolderKey) {
        lock(&self.books).remove(holder);
    }

    /// What is known of the counters of `connection`, one of `holder`'s.
    #[must_use]
    pub fn hearing(&self, holder: &HolderKey, connection: u64) -> Hearing {
        let book = lock(&self.books).get(holder).cloned();
        book.map_or(Hearing::Silent, |book| lock(&book).ledger.hearing(connection))
    }

    /// Whether a flush of the caller of `session` may be read.
    pub(super) fn admits(&self, session: &Session) -> Result<Option<Arc<Proxy>>, Refused> {
        // Whoever has no stream is told nothing by us: what it says of itself proves nothing, and is not kept.
        let Some(proxy) = session.holder().and_then(|holder| self.proxies.find(holder)) else {
            return Ok(None);
        };
        // Several may come with one certificate: what comes over one connection is not of what went over another.
        let connection = match proxy.holder() {
            HolderKey::Process(_) => 0,
            HolderKey::Remote(_) if proxy.speaks_over(session.caller().connection) => {
                session.caller().connection
            }
            HolderKey::Remote(_) => return Ok(None),
        };
        let book = self.book(&proxy);
        let mut book = lock(&book);
        if book.flushes(connection, Instant::now()) { Ok(Some(proxy)) } else { Err(Refused::Rate) }
    }

    /// A flush of `proxy` came over the connection of `session`.
    pub(super) fn flushed(
        &self,
        proxy: &Arc<Proxy>,
        session: &Session,
        seen: Observation,
    ) -> Result<(), Refused> {
        let (book, connection) = (self.book(proxy), session.caller().connection);
        {
            let mut book = lock(&book);
            let is_heard = book.ledger.hearing(connection) == Hearing::Joined;
            if !proxy.is_touched() && is_heard && book.ledger.has_seen(connection, &seen) {
                return Ok(()); // nine of ten: nothing happened
            }
            if !book.looks.take(Instant::now(), LOOKS) {
                return Err(Refused::Rate); // the next flush says the same
            }
        }
        // A program that inherited the connection is another caller: its counters are not of these pushes.
        session.verify().map_err(|_| Refused::Session)?;
        self.settle(proxy, &mut lock(&book), Some((connection, seen)));
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
        let by = match proxy.holder() {
            HolderKey::Process(_) if proxy.is_new() => By::Process(Life::Whole),
            HolderKey::Process(_) => By::Process(Life::Unknown),
            HolderKey::Remote(_) => By::Connection,
        };
        let ledger = Ledger::new(by, self.roster.names_of(proxy.holder()));
        let now = Instant::now();
        let book = Book {
            ledger,
            kept: None,
            flushes: BTreeMap::new(),
            all_flushes: Allowance::full(ALL_FLUSHES, now),
            looks: Allowance::full(LOOKS, now),
            reported: None,
        };
        let book = Arc::new(Mutex::new(book));
        books.insert(proxy.holder().clone(), book.clone());
        book
    }

    fn settle(&self, proxy: &Arc<Proxy>, book: &mut Book, flush: Option<(u64, Observation)>) {
        let flushed = flush.as_ref().map(|(connection, _)| *connection);
        let look = proxy.look();
        let settled = book.ledger.settle(&look, flush, self.clock.now());
        book.retain(&look);
        if let Some(connection) = flushed {
            self.make_room(proxy, book, connection);
        }
        for (name, row) in &settled.changed {
            super::metrics::stands(row.standing);
            if (row.standing, row.means) == (Standing::PossiblyApplied, Means::Statistics)
                && !row.refusals.is_empty()
                && let Some(suppressed) = self.log.event(Instant::now())
            {
                let (holder, version) = (proxy.holder(), row.version);
                tracing::warn!(%holder, name = &**name, %version, suppressed, "a secret is in use in some places of this client and refused in others");
            }
        }
        for (name, content, times) in settled.redress {
            if let Some(suppressed) = self.log.event(Instant::now()) {
                tracing::info!(holder = %proxy.holder(), name = &*name, times, suppressed, "sent again in other bytes");
            }
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

    /// Finds room for what is kept of the flush over `connection`, or keeps nothing of it.
    fn make_room(&self, proxy: &Proxy, book: &mut Book, connection: u64) {
        let bytes = book.ledger.bytes();
        if book.kept.as_ref().is_some_and(|place| place.bytes() == bytes) {
            return;
        }
        book.kept = None; // first given back
        book.kept = self.room.take(proxy.account().clone(), bytes);
        if book.kept.is_none() {
            book.ledger.forget(connection);
            let rest = book.ledger.bytes();
            book.kept = if rest > 0 { self.room.take(proxy.account().clone(), rest) } else { None };
        }
        if book.kept.is_none() {
            book.ledger.forget_all(); // others took what it had
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
