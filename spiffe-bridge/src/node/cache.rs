//! SVIDs over a restart: sealed in the store, so that a proxy that reconnects gets the same bytes.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::seal::SealingKey;
use super::slot::{Credential, Held, Spec};
use crate::clock::Timestamp;
use crate::identity::{ContentHash, Memo, PrivateKey, Revision, Serial, SpiffeId, Version, X509Svid};
use crate::store::{Store, StoreError, Transaction, Write};

const PREFIX: &[u8] = b"node/svid/";
/// Of a record in this layout. A record of another one is not ours to read: it is issued anew.
const FORMAT: u8 = 1;
/// The most expired records that are deleted in one transaction.
const PRUNE_AT_MOST: usize = 1000;

/// An X509-SVID as it is kept. Tokens are not: they are short-lived, and no proxy rebuilds anything for a new one.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) svid: Arc<X509Svid>,
    pub(super) issued: Timestamp,
}

impl Kept {
    /// What is to be kept of `held`, if anything.
    pub(super) fn of(held: &Held) -> Option<Self> {
        held.svid.x509().map(|svid| Self { svid: svid.clone(), issued: held.issued })
    }
}

impl From<Kept> for Held {
    fn from(kept: Kept) -> Self {
        Self { svid: Credential::X509(kept.svid), issued: kept.issued }
    }
}

/// The sealed SVIDs of this node.
#[derive(Clone)]
pub(super) struct Cache {
    store: Store,
    key: Arc<SealingKey>,
}

impl Cache {
    pub(super) fn new(store: Store, key: SealingKey) -> Self {
        Self { store, key: Arc::new(key) }
    }

    /// The SVID kept for `spec`, if there is one that can be read. Not verified yet.
    pub(super) fn load(&self, spec: &Spec, spiffe_id: &SpiffeId) -> Option<Kept> {
        let place = place(spec);
        let record = match self.store.get(&place) {
            Ok(record) => record?,
            Err(error) => {
                tracing::warn!(%spiffe_id, %error, "cannot read the SVID cache: a new SVID will be issued");
                return None;
            }
        };
        let (_, sealed) = record.value.split_at_checked(8)?;
        let held = self.key.open(&place, sealed).and_then(|plain| decode(&plain, spiffe_id));
        if held.is_none() {
            tracing::warn!(%spiffe_id, "the cached SVID cannot be read with this sealing key: a new one will be issued");
        }
        held
    }

    /// Keeps `held` for the next start; durable when this returns.
    pub(super) async fn save(&self, spec: &Spec, held: &Kept) -> Result<(), StoreError> {
        let key = place(spec);
        let plain = encode(held);
        let Ok(sealed) = self.key.seal(&key, &plain) else {
            tracing::warn!("the cipher failed: this SVID will not outlive a restart");
            return Ok(());
        };
        let value = [&held.svid.not_after.unix_millis().to_be_bytes()[..], &sealed].concat();
        self.write(vec![Write::Put { key, value }]).await
    }

    /// Forgets the SVIDs of removed entries.
    pub(super) async fn remove(&self, specs: Vec<Spec>) -> Result<(), StoreError> {
        self.write(specs.iter().map(|spec| Write::Delete { key: place(spec) }).collect()).await
    }

    /// Deletes records that have expired, and those whose entry has gone, a bounded number at a time.
    pub(super) async fn prune(
        &self,
        now: Timestamp,
        wanted: &std::collections::HashSet<ContentHash>,
    ) -> Result<(), StoreError> {
        let wanted: std::collections::HashSet<Vec<u8>> = wanted.iter().map(place_of).collect();
        let dead = self.store.list(PREFIX)?.into_iter().filter(|(key, record)| {
            let ends = record.value.first_chunk().map(|ends| u64::from_be_bytes(*ends));
            ends.is_none_or(|ends| ends <= now.unix_millis()) || !wanted.contains(key)
        });
        self.write(dead.take(PRUNE_AT_MOST).map(|(key, _)| Write::Delete { key }).collect()).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        self.store.transact(Transaction { compares: Vec::new(), writes }).await.map(drop)
    }
}

fn place(spec: &Spec) -> Vec<u8> {
    place_of(&spec.hash())
}

fn place_of(hash: &ContentHash) -> Vec<u8> {
    [PREFIX, hash.to_string().as_bytes()].concat()
}

/// The hash that an SVID's version carries: of its chain and its key.
pub(super) fn content(chain: &[CertificateDer<'_>], key: &PrivateKey) -> ContentHash {
    let mut parts: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
    parts.push(key.expose_pkcs8());
    ContentHash::of(&parts)
}

fn encode(held: &Kept) -> Zeroizing<Vec<u8>> {
    let svid = &held.svid;
    let times = [svid.not_before, svid.not_after, held.issued].map(Timestamp::unix_millis);
    let mut fields: Vec<&[u8]> = vec![svid.serial.octets(), svid.key.expose_pkcs8()];
    fields.extend(svid.chain.iter().map(AsRef::as_ref));
    let size = 33 + fields.iter().map(|field| field.len() + 4).sum::<usize>();
    // The full size at once: a vector that grows leaves copies of the key behind.
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    out.push(FORMAT);
    out.extend(svid.version.revision.0.to_be_bytes());
    times.iter().for_each(|time| out.extend(time.to_be_bytes()));
    for field in fields {
        out.extend(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(field);
    }
    out
}

fn decode(plain: &[u8], spiffe_id: &SpiffeId) -> Option<Kept> {
    let (&[FORMAT], rest) = plain.split_first_chunk()? else { return None };
    let (revision, rest) = number(rest)?;
    let (not_before, rest) = number(rest)?;
    let (not_after, rest) = number(rest)?;
    let (issued, rest) = number(rest)?;
    let (serial, rest) = field(rest)?;
    let (key, mut rest) = field(rest)?;
    let mut chain = Vec::new();
    while !rest.is_empty() {
        let (certificate, next) = field(rest)?;
        chain.push(CertificateDer::from(certificate.to_vec()));
        rest = next;
    }
    let key = PrivateKey::from_pkcs8(Zeroizing::new(key.to_vec()));
    let version = Version { revision: Revision(revision), hash: content(&chain, &key) };
    let svid = X509Svid {
        spiffe_id: spiffe_id.clone(),
        chain,
        key,
        serial: Serial::from_octets(serial)?,
        not_before: Timestamp::from_unix_millis(not_before),
        not_after: Timestamp::from_unix_millis(not_after),
        version,
        memo: Memo::default(),
    };
    Some(Kept { svid: Arc::new(svid), issued: Timestamp::from_unix_millis(issued) })
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::parse_spiffe_id;

    #[test]
    fn a_record_reads_back_as_it_was() {
        let id = parse_spiffe_id("spiffe://example.org/web").unwrap();
        let chain = vec![CertificateDer::from(vec![1, 2]), CertificateDer::from(vec![3])];
        let key = PrivateKey::from_pkcs8(Zeroizing::new(vec![9; 5]));
        let version = Version { revision: Revision(42), hash: content(&chain, &key) };
        let svid = X509Svid {
            spiffe_id: id.clone(),
            chain,
            key,
            serial: Serial::from_octets(&[5, 6]).unwrap(),
            not_before: Timestamp::from_unix_seconds(1),
            not_after: Timestamp::from_unix_seconds(3),
            version,
            memo: Memo::default(),
        };
        let held = Kept { svid: Arc::new(svid), issued: Timestamp::from_unix_seconds(2) };
        let plain = encode(&held);
        let back = decode(&plain, &id).unwrap();
        assert_eq!(back.svid.version, version);
        assert_eq!(back.svid.chain, held.svid.chain);
        assert_eq!((back.issued, back.svid.not_after), (held.issued, held.svid.not_after));
        assert!(
            (0..plain.len()).all(|cut| decode(&plain[..cut], &id).is_none_or(|h| h.svid.version != version))
        );
    }
}
