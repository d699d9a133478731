//! Where each name of one client stands: what its streams say, and what its counters prove of it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{ContentHash, Version};
use spiffe_bridge::roster::{Means, NameRow, Refusal, Standing};

use super::joined::{By, Hearing, Joined};
use super::judge::Verdict;
use super::observation::Observation;
use super::remedy::{Course, Kind, Word, remedies};
use crate::sds::{Look, Special, Told};

/// A name that no stream of a connected client asks for any more is dropped after this: streams come back within
/// Envoy's back-off of 30 s.
const DROPPED_AFTER: Duration = Duration::from_secs(60);

/// The book of one client.
#[derive(Debug)]
pub struct Ledger {
    joined: Joined,
    /// Whether it flushes, over each of its connections that matter.
    statistics: bool,
    rows: BTreeMap<Box<str>, NameRow>,
    /// Certificates whose last word was a refusal, and roots that were pushed meanwhile.
    frozen: BTreeSet<Box<str>>,
    /// Names that no stream asks for, since when.
    unasked: BTreeMap<Box<str>, Timestamp>,
}

/// What came of a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Names that stand otherwise than before.
    pub changed: Vec<(Box<str>, NameRow)>,
    /// Names that the client wants no more.
    pub dropped: Vec<Box<str>>,
    /// Contents to be sent in other bytes: name, content, in which.
    pub redress: Vec<(Box<str>, ContentHash, u32)>,
}

impl Ledger {
    /// Of a client of whom the roster knows `rows`.
    #[must_use]
    pub fn new(by: By, rows: Vec<(Box<str>, NameRow)>) -> Self {
        let stood_refused = |(name, row): &&(Box<str>, NameRow)| {
            Kind::of(name) == Kind::Certificate
                && matches!(row.standing, Standing::Refused | Standing::PossiblyApplied)
                && !row.refusals.is_empty()
        };
        let frozen = rows.iter().filter(stood_refused).map(|(name, _)| name.clone()).collect();
        Self {
            joined: Joined::new(by),
            statistics: false,
            rows: rows.into_iter().collect(),
            frozen,
            unasked: BTreeMap::new(),
        }
    }

    /// Whether it tells its counters.
    #[must_use]
    pub fn has_statistics(&self) -> bool {
        self.statistics
    }

    /// Whether anything was ever sent to it.
    #[must_use]
    pub fn has_names(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Whether it was ever sent a certificate.
    #[must_use]
    pub fn holds_certificate(&self) -> bool {
        self.rows.keys().any(|name| Kind::of(name) == Kind::Certificate)
    }

    /// What is known of the counters of a connection.
    #[must_use]
    pub fn hearing(&self, connection: u64) -> Hearing {
        self.joined.hearing(connection)
    }

    /// Whether a flush over `connection` says nothing new.
    #[must_use]
    pub fn has_seen(&self, connection: u64, now: &Observation) -> bool {
        self.joined.has_seen(connection, now)
    }

    /// Bytes that are kept of last flushes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.joined.bytes()
    }

    /// Keeps nothing of the last flush over `connection`.
    pub fn forget(&mut self, connection: u64) {
        self.joined.forget(connection);
    }

    /// Keeps nothing of any flush.
    pub fn forget_all(&mut self) {
        self.joined.forget_all();
    }

    /// Whether it is to be looked at again though nothing happens.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.unasked.is_empty()
    }

    /// Takes in where the streams stand, and a flush that came meanwhile, with the connection that it came over.
    pub fn settle(&mut self, look: &Look, flush: Option<(u64, Observation)>, now: Timestamp) -> Settled {
        self.joined.retain(look);
        if let Some((connection, flush)) = flush {
            self.joined.flushed(connection, flush, look);
        }
        if !look.told.is_empty() {
            self.statistics = self.joined.hears_all(&look.told);
        }
        let mut settled = Settled::default();
        let mut courses = Vec::new();
        let groups =
            look.told.chunk_by(|a, b| a.name == b.name).chain(look.left.chunk_by(|a, b| a.name == b.name));
        for of_name in groups {
            let Some(first) = of_name.first() else { continue };
            let special = look.special.get(&first.name);
            let (row, course) = self.stands(of_name, special);
            courses.push((course, row.version));
            self.put(first.name.clone(), row, &mut settled);
        }
        self.held_back(look, &mut courses);
        for (name, version, at) in &look.fetched {
            if look.told.iter().all(|told| told.name != *name) {
                self.put(name.clone(), fetched(*version, *at, look.special.get(name)), &mut settled);
            }
        }
        self.remedy(&courses, &mut settled);
        self.settle_unasked(look, now, &mut settled);
        settled
    }

    fn put(&mut self, name: Box<str>, mut row: NameRow, settled: &mut Settled) {
        let known = self.rows.get(&name);
        if let Some(known) = known
            && (known.version, known.standing, known.means) == (row.version, row.standing, row.means)
        {
            row.at = known.at;
        }
        if known != Some(&row) {
            self.rows.insert(name.clone(), row.clone());
            settled.changed.push((name, row));
        }
    }

    /// Where the streams of one name stand together: the weakest speaks for all.
    fn stands<'a>(&self, of_name: &'a [Told], special: Option<&Special>) -> (NameRow, Course<'a>) {
        let newest = of_name.iter().max_by_key(|told| (told.sent.revision, told.sent_at));
        let (name, sent, sent_at) =
            newest.map_or(("", Version::default(), Timestamp::default()), |t| (&*t.name, t.sent, t.sent_at));
        let word = |told: &Told| match &told.answer {
            _ if told.sent != sent => Word::Awaited,
            None => Word::Awaited,
            Some((Ok(()), _)) => Word::Taken,
            Some((Err(_), _)) => Word::Refused,
        };
        let words = || of_name.iter().map(word);
        let word = match () {
            () if words().any(|word| word == Word::Refused) => Word::Refused,
            () if words().all(|word| word == Word::Taken) => Word::Taken,
            () => Word::Awaited,
        };
        let known = self.joined.known(name, sent, of_name);
        let by_claim = of_name.iter().all(|told| told.is_claim);
        let (standing, means) = match (word, known.map(|known| known.verdict)) {
            (Word::Awaited, _) => (Standing::Sent, Means::Sending),
            (_, Some(Verdict::PossiblyApplied)) => (Standing::PossiblyApplied, Means::Statistics),
            (Word::Refused, Some(Verdict::Refused)) => (Standing::Refused, Means::Statistics),
            (Word::Refused, _) => (Standing::Refused, Means::Answer),
            (Word::Taken, Some(Verdict::Proved)) => (Standing::ProvedApplied, Means::Statistics),
            (Word::Taken, _) if by_claim => (Standing::Acknowledged, Means::Claim),
            (Word::Taken, _) => (Standing::Acknowledged, Means::Answer),
        };
        let (version, dress) = content_of(sent, special);
        let at = of_name.iter().filter_map(|told| told.answer.as_ref().map(|(_, at)| *at)).max();
        let row = NameRow {
            version,
            dress,
            standing,
            means,
            sent_at,
            at: at.unwrap_or(sent_at),
            refusals: refusals_of(special),
        };
        let course = Course {
            name,
            kind: Kind::of(name),
            word,
            standing,
            dress,
            was_frozen: self.frozen.contains(name),
            could_be_proved: known.is_some_and(|known| known.could_be_proved),
        };
        (row, course)
    }

    /// What is refused for good and would be sent to whoever asks for it now.
    fn held_back<'a>(&self, look: &'a Look, courses: &mut Vec<(Course<'a>, Version)>) {
        for (name, special) in &look.special {
            let Some(content) = special.held_back else { continue };
            let dress = special.dress.filter(|(of, _)| *of == content.hash).map_or(0, |(_, times)| times);
            let refused = Course {
                name,
                kind: Kind::of(name),
                word: Word::Refused,
                standing: Standing::Refused,
                dress,
                was_frozen: self.frozen.contains(name),
                could_be_proved: false,
            };
            match courses.iter_mut().find(|(course, _)| course.name == &**name) {
                // What it was sent before it would have been sent this does not matter.
                Some(course) => *course = (refused, content),
                None => courses.push((refused, content)),
            }
        }
    }

    fn remedy(&mut self, courses: &[(Course<'_>, Version)], settled: &mut Settled) {
        let bare: Vec<Course<'_>> = courses.iter().map(|(course, _)| *course).collect();
        for name in remedies(&bare) {
            if let Some((course, content)) = courses.iter().find(|(course, _)| course.name == name) {
                settled.redress.push((name.into(), content.hash, course.dress + 1));
            }
        }
        let is_frozen =
            bare.iter().any(|course| course.kind == Kind::Certificate && course.word == Word::Refused);
        for course in &bare {
            match (course.kind, course.word) {
                (Kind::Certificate, Word::Refused) => {
                    self.frozen.insert(course.name.into());
                }
                (Kind::Certificate, Word::Taken) => {
                    self.frozen.remove(course.name);
                }
                (Kind::Trust, _) if is_frozen && course.standing != Standing::ProvedApplied => {
                    self.frozen.insert(course.name.into());
                }
                (Kind::Trust, Word::Taken) if !is_frozen => {
                    self.frozen.remove(course.name);
                }
                _ => {}
            }
        }
    }

    fn settle_unasked(&mut self, look: &Look, now: Timestamp, settled: &mut Settled) {
        let is_asked = |name: &str| look.told.binary_search_by(|told| (*told.name).cmp(name)).is_ok();
        self.unasked.retain(|name, _| !is_asked(name));
        if look.streams == 0 {
            self.unasked.clear(); // it is away: whatever it holds, it goes on holding
            return;
        }
        let stays = |row: &NameRow| row.means != Means::Fetch;
        for (name, _) in self.rows.iter().filter(|(name, row)| stays(row) && !is_asked(name)) {
            self.unasked.entry(name.clone()).or_insert(now);
        }
        let is_over = |since: &Timestamp| now.since(*since) >= DROPPED_AFTER;
        let over: Vec<_> =
            self.unasked.extract_if(.., |_, since| is_over(since)).map(|(name, _)| name).collect();
        for name in over {
            self.rows.remove(&name);
            self.frozen.remove(&name);
            settled.dropped.push(name);
        }
    }
}

fn fetched(sent: Version, at: Timestamp, special: Option<&Special>) -> NameRow {
    let (standing, means) = (Standing::Sent, Means::Fetch);
    let (version, dress) = content_of(sent, special);
    NameRow { version, dress, standing, means, sent_at: at, at, refusals: refusals_of(special) }
}

/// The content that went out as `sent`, and how often it was put into other bytes.
fn content_of(sent: Version, special: Option<&Special>) -> (Version, u32) {
    let worn = special.and_then(|special| special.worn).filter(|(hash, _)| *hash == sent.hash);
    let version = worn.map_or(sent, |(_, content)| content);
    let dress = special.and_then(|special| special.dress).filter(|(content, _)| *content == version.hash);
    (version, dress.map_or(0, |(_, times)| times))
}

fn refusals_of(special: Option<&Special>) -> Vec<Refusal> {
    special.map(|special| special.refused.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
