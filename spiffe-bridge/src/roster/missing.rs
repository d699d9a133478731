//! Who does not hold a version yet, and why.

use std::fmt;

use serde::Serialize;

use super::book::{Book, Member};
use super::standing::{Means, NameRow, Standing};
use crate::clock::Timestamp;
use crate::identity::{Revision, Version};

/// Which version is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Of each member, what it was sent last.
    LastSent,
    /// This revision or a later one.
    AtLeast(Revision),
    /// This very one, or a later revision.
    Exactly(Version),
}

/// What is enough to hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enough {
    /// Only the holder's own counters.
    Proof,
    /// Its word.
    Acknowledgement,
}

/// Why a member does not count as holding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was sent an older one.
    Older,
    /// It has not answered.
    Unanswered,
    /// It refused it.
    Refused,
    /// Some of its places switched and some did not, or it cannot be told.
    PossiblyApplied,
    /// It acknowledged it, and tells no counters.
    AcknowledgedOnly,
    /// It acknowledged it, and its counters prove nothing yet.
    NotProved,
    /// It fetched it once: nobody will say what became of it.
    Fetched,
    /// Not a member: somebody that the roster lost in a crash may hold a certificate.
    Unaccounted,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Older => "was sent an older version",
            Self::Unanswered => "was sent it and has not answered",
            Self::Refused => "refused it",
            Self::PossiblyApplied => "uses it in some places only, or it cannot be told",
            Self::AcknowledgedOnly => "acknowledged it only: it sends no statistics",
            Self::NotProved => "acknowledged it; its counters do not prove it yet",
            Self::Fetched => "fetched it once: what became of it is not known",
            Self::Unaccounted => {
                "the server ended without closing: somebody may hold a certificate of whom nothing is known"
            }
        })
    }
}

/// One who does not hold it.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    /// The holder's durable name; `None` for whoever is unaccounted for.
    pub holder: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// Its user.
    pub uid: Option<u32>,
    /// The SPIFFE IDs that it has.
    pub identities: Vec<Box<str>>,
    /// Whether it has an open stream.
    pub connected: bool,
    /// When it was last known to be there.
    pub seen: Option<Timestamp>,
    /// The end of the last certificate that it was given.
    pub not_after: Option<Timestamp>,
    /// What it was sent last under the name.
    pub version: Option<Version>,
    /// Where that stands.
    pub standing: Option<Standing>,
    /// By which means.
    pub means: Option<Means>,
    /// Since when.
    pub at: Option<Timestamp>,
    /// Why it does not count.
    pub why: Why,
    /// The class of its last refusal of this name.
    pub refusal: Option<Box<str>>,
}

/// The answer: of `members` who have the name, these are missing.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// Members who have the name at all. Of none nothing is known: 0 of 0 is not "all".
    pub members: usize,
    /// Those who do not hold it.
    pub missing: Vec<Missing>,
    /// Members that found no place since the start: the answer is incomplete.
    pub turned_away: u64,
}

impl Answer {
    /// Whether everybody is known to hold it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.members > 0 && self.missing.is_empty() && self.turned_away == 0
    }
}

impl Book {
    /// Who does not hold the `wanted` version of `name`.
    pub(super) fn missing(&self, name: &str, wanted: Wanted, enough: Enough) -> Answer {
        let rows = || self.members.iter().filter_map(|(key, m)| Some((key, m, m.names.get(name)?)));
        let mut missing: Vec<Missing> = rows()
            .filter_map(|(key, member, row)| {
                let why = lacks(member, row, wanted, enough)?;
                Some(Missing {
                    holder: Some(key.to_string()),
                    pid: key.pid(),
                    uid: member.uid,
                    identities: member.identities.clone(),
                    connected: member.is_connected,
                    seen: Some(member.seen),
                    not_after: member.not_after,
                    version: Some(row.version),
                    standing: Some(row.standing),
                    means: Some(row.means),
                    at: Some(row.at),
                    why,
                    refusal: row.refusals.last().map(|refusal| refusal.kind.clone()),
                })
            })
            .collect();
        if let Some(until) = self.unaccounted_until {
            missing.push(Missing {
                holder: None,
                pid: None,
                uid: None,
                identities: Vec::new(),
                connected: false,
                seen: None,
                not_after: Some(until),
                version: None,
                standing: None,
                means: None,
                at: None,
                why: Why::Unaccounted,
                refusal: None,
            });
        }
        Answer { members: rows().count(), missing, turned_away: self.turned_away }
    }

    /// The newest version of `name` that anybody was sent.
    pub(super) fn newest(&self, name: &str) -> Option<Version> {
        self.members.values().filter_map(|member| Some(member.names.get(name)?.version)).max()
    }
}

/// Why a member does not hold what is wanted; `None` if it does.
fn lacks(member: &Member, row: &NameRow, wanted: Wanted, enough: Enough) -> Option<Why> {
    let is_older = match wanted {
        Wanted::LastSent => false,
        Wanted::AtLeast(revision) => row.version.revision < revision,
        Wanted::Exactly(version) => {
            row.version.revision < version.revision
                || (row.version.revision == version.revision && row.version.hash != version.hash)
        }
    };
    if is_older {
        return Some(Why::Older);
    }
    match (row.standing, row.means, enough) {
        (Standing::ProvedApplied, ..) => None,
        (Standing::Refused, ..) => Some(Why::Refused),
        (Standing::PossiblyApplied, ..) => Some(Why::PossiblyApplied),
        (Standing::Sent, Means::Fetch, _) => Some(Why::Fetched),
        (Standing::Sent, ..) => Some(Why::Unanswered),
        (Standing::Acknowledged, _, Enough::Acknowledgement) => None,
        (Standing::Acknowledged, ..) if member.statistics => Some(Why::NotProved),
        (Standing::Acknowledged, ..) => Some(Why::AcknowledgedOnly),
    }
}
