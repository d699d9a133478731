//! The leaf template: what is the same in all leaves of an issuer is encoded once, the rest spliced in.

use std::sync::{Arc, OnceLock};

use rustls_pki_types::CertificateDer;

use super::{CaFacts, DnsNames, LintError, algorithm, der, lint};
use crate::clock::Timestamp;
use crate::identity::{Serial, SpiffeId, text_of};
use crate::keys::{KeyType, PublicKey};
use der::{Critical, SEQUENCE};

const VERSION_3: &[u8] = &[0xa0, 0x03, 0x02, 0x01, 0x02];
const EMPTY_SEQUENCE: &[u8] = &[0x30, 0x00];

// Object identifiers, with tag and length. RFC 5280 §4.2.1.
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x06, 3, 0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[0x06, 3, 0x55, 0x1d, 15];
const SUBJECT_ALT_NAME: &[u8] = &[0x06, 3, 0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x06, 3, 0x55, 0x1d, 19];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x06, 3, 0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x06, 3, 0x55, 0x1d, 37];
const SERVER_AUTH: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
/// BIT STRING with bit 0 alone, and its seven unused bits.
const DIGITAL_SIGNATURE: &[u8] = &[0x03, 0x02, 0x07, 0x80];

/// From when to when, both ends included, in whole seconds. RFC 5280 §4.1.2.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: Timestamp,
    /// The last second.
    pub not_after: Timestamp,
}

impl Validity {
    /// The part of it that lies in `other`. Ends before it begins if there is none.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        let not_before = self.not_before.max(other.not_before);
        Self { not_before, not_after: self.not_after.min(other.not_after) }
    }
}

/// What differs from leaf to leaf. Each value has been checked by its own type.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// Never used before by this issuer.
    pub serial: &'a Serial,
    /// Within the issuer's.
    pub validity: Validity,
    /// The workload's key.
    pub public_key: &'a PublicKey,
    /// The one URI SAN. X509-SVID §2.
    pub spiffe_id: &'a SpiffeId,
    /// DNS SANs, after it.
    pub dns_names: &'a DnsNames,
}

/// A time lies beyond the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate cannot be valid to beyond the year 9999: choose a shorter lifetime")]
pub struct TimeError;

/// A template that has not been linted, and signs nothing: see [`lint`](super::lint).
#[derive(Debug, Clone)]
pub struct Draft {
    /// signature and issuer, between serial and validity.
    issuer: Vec<u8>,
    /// AKI, before the SAN.
    before_san: Vec<u8>,
    /// KU and EKU, between SAN and SKI.
    after_san: Vec<u8>,
    /// BC, after the SKI.
    after_ski: Vec<u8>,
}

/// A linted template for the leaves of one issuer. rotation.md, "Issuing".
///
/// It is linted once for each type of key that leaves come with: what is the same in all of them is
/// checked on a leaf that has such a key before the first one is made.
#[derive(Debug, Clone)]
pub struct Template {
    draft: Draft,
    linter: Arc<lint::Linter>,
    specimens: Specimens,
}

/// The certificates that were linted, by the type of their key.
type Specimens = [OnceLock<CertificateDer<'static>>; KeyType::ALL.len()];

/// Why a leaf cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Its times cannot be written.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The lint found fault with leaves of this type of key.
    #[error("leaves with keys of type {key_type} are not made")]
    Lint {
        /// The type of the leaf's key.
        key_type: KeyType,
        /// What is wrong.
        #[source]
        source: LintError,
    },
}

impl Draft {
    /// The template for leaves of `issuer`.
    #[must_use]
    pub fn new(issuer: &CaFacts) -> Self {
        let aki = der::of(SEQUENCE, &[&der::of(der::primitive(0), &[&issuer.key_identifier])]);
        let eku = der::of(SEQUENCE, &[SERVER_AUTH, CLIENT_AUTH]); // X509-SVID §4.4
        let ku = der::extension(KEY_USAGE, Critical::Yes, DIGITAL_SIGNATURE); // §4.3
        Self {
            issuer: [algorithm::identifier(issuer.public_key.key_type()), &issuer.subject].concat(), // RFC 5280 §4.1.2.4
            before_san: der::extension(AUTHORITY_KEY_IDENTIFIER, Critical::No, &aki), // §4.2.1.1
            after_san: [ku, der::extension(EXTENDED_KEY_USAGE, Critical::No, &eku)].concat(),
            // X509-SVID §4.1: cA=false, which DER spells as an empty sequence.
            after_ski: der::extension(BASIC_CONSTRAINTS, Critical::Yes, EMPTY_SEQUENCE),
        }
    }

    /// The TBSCertificate of `leaf`, DER.
    ///
    /// # Errors
    /// [`TimeError`].
    pub(super) fn tbs(&self, leaf: &Leaf<'_>) -> Result<Vec<u8>, TimeError> {
        let mut validity = Vec::with_capacity(34);
        der::time(&mut validity, leaf.validity.not_before).ok_or(TimeError)?;
        der::time(&mut validity, leaf.validity.not_after).ok_or(TimeError)?;

        let mut names = Vec::with_capacity(256);
        der::value(&mut names, der::primitive(6), text_of(leaf.spiffe_id).as_bytes());
        for name in leaf.dns_names.iter() {
            der::value(&mut names, der::primitive(2), name.as_bytes());
        }
        // Critical, since the subject is empty. X509-SVID §3.1, RFC 5280 §4.2.1.6.
        let names = der::extension(SUBJECT_ALT_NAME, Critical::Yes, &der::of(SEQUENCE, &[&names]));
        let ski = der::of(der::OCTET_STRING, &[&leaf.public_key.key_identifier()]);
        let ski = der::extension(SUBJECT_KEY_IDENTIFIER, Critical::No, &ski);
        let parts: [&[u8]; 5] = [&self.before_san, &names, &self.after_san, &ski, &self.after_ski];
        let extensions = der::of(der::constructed(3), &[&der::of(SEQUENCE, &parts)]);

        let serial = der::of(der::INTEGER, &[leaf.serial.octets()]);
        let validity = der::of(SEQUENCE, &[&validity]);
        let subject = EMPTY_SEQUENCE;
        let spki = leaf.public_key.spki();
        Ok(der::of(SEQUENCE, &[VERSION_3, &serial, &self.issuer, &validity, subject, spki, &extensions]))
    }
}

impl Template {
    /// Called by the lint alone.
    pub(super) fn new(draft: Draft, linter: lint::Linter) -> Self {
        Self { draft, linter: Arc::new(linter), specimens: Specimens::default() }
    }

    /// The TBSCertificate of `leaf`, DER: reserve it, sign it, then [`assemble`].
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn tbs(&self, leaf: &Leaf<'_>) -> Result<Vec<u8>, TemplateError> {
        self.check(leaf.public_key)?;
        Ok(self.draft.tbs(leaf)?)
    }

    /// Lints leaves with keys of the type of `key`, if that was not done before.
    pub(super) fn check(&self, key: &PublicKey) -> Result<(), TemplateError> {
        let key_type = key.key_type();
        let specimen = self.specimen_of(key_type);
        if specimen.is_some_and(|cell| cell.get().is_none()) {
            let lint = self.linter.lint(&self.draft, key);
            let linted = lint.map_err(|source| TemplateError::Lint { key_type, source })?;
            // If two did this at once, both found the same.
            specimen.map(|cell| cell.get_or_init(|| linted));
        }
        Ok(())
    }

    /// The certificate that was linted for leaves with keys of `key_type`, signed with a key that nobody
    /// trusts; `None` before the first such leaf.
    #[must_use]
    pub fn specimen(&self, key_type: KeyType) -> Option<&CertificateDer<'static>> {
        self.specimen_of(key_type)?.get()
    }

    fn specimen_of(&self, key_type: KeyType) -> Option<&OnceLock<CertificateDer<'static>>> {
        let (_, cell) = KeyType::ALL.iter().zip(&self.specimens).find(|(known, _)| **known == key_type)?;
        Some(cell)
    }
}

/// The certificate of a TBSCertificate and the signature that a key of type `signer` made of it, the way
/// of [`KeyType::certificate_scheme`].
#[must_use]
pub fn assemble(tbs: &[u8], signer: KeyType, signature: &[u8]) -> CertificateDer<'static> {
    // The outer algorithm is the same constant as the inner one. RFC 5280 §4.1.1.2.
    let signature = der::of(der::BIT_STRING, &[&[0], signature]);
    der::of(SEQUENCE, &[tbs, algorithm::identifier(signer), &signature]).into()
}
