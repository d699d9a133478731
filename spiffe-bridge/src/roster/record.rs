//! Members and names as they are kept: JSON, one record a member and one a name, so that a push writes a small one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::HolderKey;
use super::book::Member;
use super::standing::{Means, NameRow, Refusal, Standing};
use crate::clock::Timestamp;
use crate::store::{Store, StoreError, Write};

const MEMBERS: &[u8] = b"roster/member/";
const NAMES: &[u8] = b"roster/name/";
/// There while the roster is closed: whatever was sent is in it.
pub(super) const CLOSED: &[u8] = b"roster/closed";

/// A record of another format was written by a newer version, and is left alone.
const FORMAT: u32 = 1;
/// Between a holder and a name in a key. No holder has it: a name of a certificate is escaped.
const SEPARATOR: u8 = 0;

#[derive(Serialize, Deserialize)]
struct MemberRecord {
    format: u32,
    uid: Option<u32>,
    identities: Vec<Box<str>>,
    since: u64,
    seen: u64,
    statistics: bool,
    not_after: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct NameRecord {
    format: u32,
    version: String,
    dress: u32,
    standing: Standing,
    means: Means,
    sent_at: u64,
    at: u64,
    refusals: Vec<(String, Box<str>, u64)>,
}

/// Everything that is kept; records that cannot be read are counted, and whoever they were of is unaccounted for.
pub(super) fn load(store: &Store) -> Result<(BTreeMap<HolderKey, Member>, usize), StoreError> {
    let mut members = BTreeMap::new();
    let mut unreadable = 0;
    for (key, stored) in store.list(MEMBERS)? {
        match read_member(&key, &stored.value) {
            Some((key, member)) => {
                members.insert(key, member);
            }
            None => unreadable += 1,
        }
    }
    for (key, stored) in store.list(NAMES)? {
        let read = read_name(&key, &stored.value);
        match read.and_then(|(key, name, row)| Some((members.get_mut(&key)?, name, row))) {
            Some((member, name, row)) => {
                member.names.insert(name, row);
            }
            None => unreadable += 1,
        }
    }
    Ok((members, unreadable))
}

fn read_member(key: &[u8], value: &[u8]) -> Option<(HolderKey, Member)> {
    let holder = str::from_utf8(key.strip_prefix(MEMBERS)?).ok()?.parse().ok()?;
    let record: MemberRecord = serde_json::from_slice(value).ok()?;
    (record.format == FORMAT).then(|| {
        let member = Member {
            uid: record.uid,
            identities: record.identities,
            since: Timestamp::from_unix_millis(record.since),
            seen: Timestamp::from_unix_millis(record.seen),
            is_connected: false,
            statistics: record.statistics,
            not_after: record.not_after.map(Timestamp::from_unix_millis),
            names: BTreeMap::new(),
        };
        (holder, member)
    })
}

fn read_name(key: &[u8], value: &[u8]) -> Option<(HolderKey, Box<str>, NameRow)> {
    let mut parts = key.strip_prefix(NAMES)?.splitn(2, |byte| *byte == SEPARATOR);
    let holder = str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let name = str::from_utf8(parts.next()?).ok()?;
    let record: NameRecord = serde_json::from_slice(value).ok()?;
    if record.format != FORMAT {
        return None;
    }
    let refusal = |(hash, kind, at): (String, Box<str>, u64)| {
        Some(Refusal { hash: hash.parse().ok()?, kind, at: Timestamp::from_unix_millis(at) })
    };
    let row = NameRow {
        version: record.version.parse().ok()?,
        dress: record.dress,
        standing: record.standing,
        means: record.means,
        sent_at: Timestamp::from_unix_millis(record.sent_at),
        at: Timestamp::from_unix_millis(record.at),
        refusals: record.refusals.into_iter().filter_map(refusal).collect(),
    };
    Some((holder, name.into(), row))
}

/// What writes a member as it is, or removes one that is no more.
pub(super) fn write_member(key: &HolderKey, member: Option<&Member>) -> Write {
    let place = [MEMBERS, key.to_string().as_bytes()].concat();
    let Some(member) = member else { return Write::Delete { key: place } };
    let record = MemberRecord {
        format: FORMAT,
        uid: member.uid,
        identities: member.identities.clone(),
        since: member.since.unix_millis(),
        seen: member.seen.unix_millis(),
        statistics: member.statistics,
        not_after: member.not_after.map(Timestamp::unix_millis),
    };
    Write::Put { key: place, value: json(&record) }
}

/// The same of a name.
pub(super) fn write_name(key: &HolderKey, name: &str, row: Option<&NameRow>) -> Write {
    let place = [NAMES, key.to_string().as_bytes(), &[SEPARATOR], name.as_bytes()].concat();
    let Some(row) = row else { return Write::Delete { key: place } };
    let refusal = |r: &Refusal| (r.hash.to_string(), r.kind.clone(), r.at.unix_millis());
    let record = NameRecord {
        format: FORMAT,
        version: row.version.to_string(),
        dress: row.dress,
        standing: row.standing,
        means: row.means,
        sent_at: row.sent_at.unix_millis(),
        at: row.at.unix_millis(),
        refusals: row.refusals.iter().map(refusal).collect(),
    };
    Write::Put { key: place, value: json(&record) }
}

/// Structs of texts and numbers always serialise; what did not would be unreadable, and counted as such.
fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}
