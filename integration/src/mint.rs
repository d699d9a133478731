//! SVIDs and roots that a test makes itself, also such as some Envoys refuse.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType, IsCa,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::identity::{
    ContentHash, Identity, Memo, PrivateKey, Revision, Serial, SpiffeId, TrustBundle, Version,
    WorkloadUpdate, X509Svid,
};

/// What a leaf asks of whoever shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staple {
    /// Nothing.
    Free,
    /// An OCSP response in each handshake (RFC 7633): a listener that has none refuses it.
    Must,
}

/// TLS Feature with status_request. RFC 7633 §4.
const TLS_FEATURE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
const STATUS_REQUEST: [u8; 5] = [0x30, 0x03, 0x02, 0x01, 0x05];

/// A trust domain with one CA.
pub struct Mint {
    trust_domain: String,
    root: CertifiedIssuer<'static, KeyPair>,
    minted: u64,
}

impl Mint {
    /// # Errors
    /// The system has no randomness.
    pub fn new(trust_domain: &str) -> Result<Self> {
        Ok(Self { trust_domain: trust_domain.to_owned(), root: root(trust_domain)?, minted: 0 })
    }

    /// A new SVID for `path`, at `revision`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn svid(&mut self, path: &str, revision: u64, staple: Staple) -> Result<Arc<X509Svid>> {
        self.minted += 1;
        let id = format!("spiffe://{}{path}", self.trust_domain);
        let key = KeyPair::generate()?;
        let serial = [1, u8::try_from(self.minted % 127)? + 1];
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.subject_alt_names = vec![SanType::URI(id.clone().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        let now = Clock::system().now();
        let (begins, ends) = (now - HOUR, now + HOUR);
        (params.not_before, params.not_after) = (at(begins)?, at(ends)?);
        if staple == Staple::Must {
            params.custom_extensions =
                vec![CustomExtension::from_oid_content(TLS_FEATURE, STATUS_REQUEST.to_vec())];
        }
        let leaf = params.signed_by(&key, &self.root)?;
        Ok(Arc::new(X509Svid {
            spiffe_id: SpiffeId::new(id)?,
            chain: vec![leaf.der().clone()],
            key: PrivateKey::from_pkcs8(key.serialize_der().into()),
            serial: Serial::from_octets(&serial).context("a serial")?,
            not_before: Timestamp::from_unix_seconds(begins.unix_seconds()),
            not_after: Timestamp::from_unix_seconds(ends.unix_seconds()),
            version: Version { revision: Revision(revision), hash: ContentHash::of(&[leaf.der()]) },
            memo: Memo::default(),
        }))
    }

    /// The bundle at `revision`: its own root, and `others` more.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn bundle(&self, revision: u64, others: usize) -> Result<Arc<TrustBundle>> {
        let mut roots = vec![self.root.der().clone()];
        for _ in 0..others {
            roots.push(root(&self.trust_domain)?.der().clone());
        }
        let trust_domain = self.trust_domain.clone().try_into()?;
        Ok(Arc::new(TrustBundle::new(trust_domain, roots, Revision(revision))))
    }
}

/// What a caller with that one identity holds.
#[must_use]
pub fn update(svid: &Arc<X509Svid>, bundle: &Arc<TrustBundle>) -> WorkloadUpdate {
    let identities = vec![Identity { svid: svid.clone(), hint: None }];
    WorkloadUpdate { identities, bundle: Some(bundle.clone()), ..WorkloadUpdate::default() }
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn root(trust_domain: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "mint");
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = Clock::system().now();
    (params.not_before, params.not_after) = (at(now - HOUR)?, at(now + 24 * HOUR)?);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn at(time: Timestamp) -> Result<time::OffsetDateTime> {
    Ok(time::OffsetDateTime::from_unix_timestamp(i64::try_from(time.unix_seconds())?)?)
}
