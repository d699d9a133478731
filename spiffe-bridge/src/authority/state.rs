//! What the authority keeps in the store: its root, the journal, the reservations.

use data_encoding::HEXLOWER;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::StateError;
use crate::clock::Timestamp;
use crate::identity::{Revision, Serial};
use crate::keys::KeyId;
use crate::store::{Store, Write};

pub(super) const ROOT: &str = "authority/root";
/// The CA below the root that signs leaves, if there is one. A version that does not know of it signs with the root,
/// which is good too: the bundle is the same.
pub(super) const ISSUING: &str = "authority/issuing";
pub(super) const JOURNAL: &str = "authority/journal";
/// Reservations: `authority/reserved/<last notAfter, seconds, 16 hex digits>/<random>`, so that the
/// first to expire stand first.
pub(super) const RESERVED: &[u8] = b"authority/reserved/";

/// The active root.
pub(super) struct RootRecord {
    pub(super) trust_domain: String,
    pub(super) key: KeyId,
    pub(super) certificate: Vec<u8>,
}

/// The active issuing CA.
pub(super) struct IssuingRecord {
    pub(super) key: KeyId,
    pub(super) certificate: Vec<u8>,
}

/// A step that was begun and is not finished. rotation.md, "Steps".
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    PrepareRoot {
        format: u32,
        trust_domain: String,
        key: String,
        /// Since format 2, which is written only where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuing_key: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootDocument {
    format: u32,
    trust_domain: String,
    key: String,
    /// DER, lower-case hexadecimal.
    certificate: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuingDocument {
    format: u32,
    key: String,
    /// DER, lower-case hexadecimal.
    certificate: String,
}

const FORMAT: u32 = 1;
/// Of a step that makes an issuing CA too: a version that does not know of it holds the step.
const FORMAT_WITH_ISSUING: u32 = 2;

impl Step {
    pub(super) fn prepare_root(trust_domain: &str, key: &KeyId, issuing_key: Option<&KeyId>) -> Self {
        let format = if issuing_key.is_some() { FORMAT_WITH_ISSUING } else { FORMAT };
        let (trust_domain, key) = (trust_domain.to_owned(), key.to_string());
        Self::PrepareRoot { format, trust_domain, key, issuing_key: issuing_key.map(ToString::to_string) }
    }

    pub(super) fn write(&self) -> Write {
        put(JOURNAL, self)
    }
}

impl RootRecord {
    pub(super) fn write(&self) -> Write {
        let document = RootDocument {
            format: FORMAT,
            trust_domain: self.trust_domain.clone(),
            key: self.key.to_string(),
            certificate: HEXLOWER.encode(&self.certificate),
        };
        put(ROOT, &document)
    }
}

impl IssuingRecord {
    pub(super) fn write(&self) -> Write {
        let certificate = HEXLOWER.encode(&self.certificate);
        put(ISSUING, &IssuingDocument { format: FORMAT, key: self.key.to_string(), certificate })
    }
}

pub(super) fn read_issuing(store: &Store) -> Result<Option<IssuingRecord>, StateError> {
    let Some((document, _)) = read::<IssuingDocument>(store, ISSUING)? else { return Ok(None) };
    let certificate = HEXLOWER.decode(document.certificate.as_bytes());
    match (certificate, document.key.parse(), document.format) {
        (Ok(certificate), Ok(key), FORMAT) => Ok(Some(IssuingRecord { key, certificate })),
        _ => Err(StateError::Unknown { key: ISSUING }),
    }
}

pub(super) fn read_root(store: &Store) -> Result<Option<(RootRecord, Revision)>, StateError> {
    let Some((document, revision)) = read::<RootDocument>(store, ROOT)? else { return Ok(None) };
    let unknown = StateError::Unknown { key: ROOT };
    let (Ok(certificate), Ok(key), FORMAT) =
        (HEXLOWER.decode(document.certificate.as_bytes()), document.key.parse(), document.format)
    else {
        return Err(unknown);
    };
    Ok(Some((RootRecord { trust_domain: document.trust_domain, key, certificate }, revision)))
}

pub(super) fn read_step(store: &Store) -> Result<Option<(Step, Revision)>, StateError> {
    let step = read(store, JOURNAL)?;
    match step {
        Some((Step::PrepareRoot { format, ref issuing_key, .. }, _)) => {
            let expected = if issuing_key.is_some() { FORMAT_WITH_ISSUING } else { FORMAT };
            if format == expected { Ok(step) } else { Err(StateError::Unknown { key: JOURNAL }) }
        }
        None => Ok(None),
    }
}

/// The record of one batch: all serials, ends and to-be-signed octets. PK-02.
///
/// A format octet, then for each leaf: serial (length in 1 octet), notAfter in seconds (8 octets),
/// TBSCertificate (length in 4 octets); numbers are big-endian.
pub(super) fn reservation<'a>(
    batch: &[u8],
    leaves: impl Iterator<Item = (&'a Serial, Timestamp, &'a [u8])> + Clone,
) -> Write {
    let mut value = Vec::with_capacity(leaves.clone().map(|(_, _, tbs)| tbs.len() + 33).sum::<usize>() + 1);
    value.push(1);
    let mut last = Timestamp::default();
    for (serial, not_after, tbs) in leaves {
        last = last.max(not_after);
        value.extend(u8::try_from(serial.octets().len()).unwrap_or_default().to_be_bytes());
        value.extend_from_slice(serial.octets());
        value.extend(not_after.unix_seconds().to_be_bytes());
        value.extend(u32::try_from(tbs.len()).unwrap_or_default().to_be_bytes());
        value.extend_from_slice(tbs);
    }
    let name = format!("{:016x}/{}", last.unix_seconds(), HEXLOWER.encode(batch));
    Write::Put { key: [RESERVED, name.as_bytes()].concat(), value }
}

/// When the last leaf of a reservation expires; `None` for a key that is not one's.
pub(super) fn reservation_ends(key: &[u8]) -> Option<Timestamp> {
    let seconds = str::from_utf8(key.strip_prefix(RESERVED)?.get(..16)?).ok()?;
    u64::from_str_radix(seconds, 16).ok().map(Timestamp::from_unix_seconds)
}

pub(super) fn put(key: &str, value: &impl Serialize) -> Write {
    // Structs of texts and numbers always serialise; what did not would be refused when read.
    Write::Put { key: key.into(), value: serde_json::to_vec(value).unwrap_or_default() }
}

pub(super) fn read<T: DeserializeOwned>(
    store: &Store,
    key: &'static str,
) -> Result<Option<(T, Revision)>, StateError> {
    let Some(stored) = store.get(key.as_bytes())? else { return Ok(None) };
    let value = serde_json::from_slice(&stored.value).map_err(|_| StateError::Unknown { key })?;
    Ok(Some((value, stored.revision)))
}
