//! Self-signed CA certificates: rcgen writes them, a key manager signs them.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, KeyUsagePurpose,
    SanType, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{Validity, algorithm, der, random_serial};
use crate::clock::Timestamp;
use crate::identity::TrustDomain;
use crate::keys::{KeyError, KeyId, KeyManager, PublicKey};

/// Whether the root limits itself to URIs of its trust domain, by name constraints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NameConstraints {
    /// None: rustls refuses every chain with a URI constraint (crates.md §4b), so this is the default.
    #[default]
    Unconstrained,
    /// URIs whose host is exactly the trust domain. RFC 5280 §4.2.1.10.
    OwnTrustDomain,
}

/// What a root certificate is to say.
#[derive(Debug, Clone)]
pub struct Root<'a> {
    /// Whose root it is; also the host of its SPIFFE ID, which has no path. SPIFFE-ID §3.1.
    pub trust_domain: &'a TrustDomain,
    /// When it is valid.
    pub validity: Validity,
    /// How many CA certificates may stand between it and a leaf.
    pub depth: u8,
    /// Its name constraints.
    pub name_constraints: NameConstraints,
}

/// Why no root could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The key manager refused.
    #[error("the root's key could not be used")]
    Key(#[from] KeyError),
    /// A time lies outside what a certificate can say.
    #[error("a root cannot be valid until {at}: choose a shorter lifetime")]
    Time {
        /// That time.
        at: Timestamp,
    },
    /// rcgen refused.
    #[error("the root certificate could not be made")]
    Rcgen(#[from] rcgen::Error),
}

/// Makes the certificate of the key `id`, signed by that key itself.
///
/// # Errors
/// [`RootError`].
pub fn self_sign(
    root: &Root<'_>,
    keys: &dyn KeyManager,
    id: &KeyId,
) -> Result<CertificateDer<'static>, RootError> {
    let domain = root.trust_domain.as_str();
    let serial = random_serial()?;
    let mut params = CertificateParams::default();
    params.not_before = moment(root.validity.not_before)?;
    params.not_after = moment(root.validity.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(serial.octets())); // or rcgen repeats them
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Countersign");
    // X.520 lets a common name have 64 characters. The serial tells the roots of a domain apart.
    let short: String = domain.chars().take(43).collect();
    let tail: String = serial.to_string().chars().take(12).collect();
    params.distinguished_name.push(DnType::CommonName, format!("{short} root {tail}"));
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)]; // X509-SVID §3.2
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(root.depth)); // RFC 5280 §4.2.1.9
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false; // §4.2.1.1: self-signed
    if root.name_constraints == NameConstraints::OwnTrustDomain {
        params.custom_extensions.push(constraint(domain));
    }
    let signer = ManagedKey { keys, id, public: keys.public(id)? };
    Ok(params.self_signed(&signer)?.der().clone())
}

/// permittedSubtrees with one URI host. rcgen has no word for a URI constraint.
fn constraint(domain: &str) -> CustomExtension {
    let subtree = der::of(der::SEQUENCE, &[&der::of(der::primitive(6), &[domain.as_bytes()])]);
    let permitted = der::of(der::SEQUENCE, &[&der::of(der::constructed(0), &[&subtree])]);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], permitted);
    extension.set_criticality(true);
    extension
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, RootError> {
    let seconds = i64::try_from(at.unix_seconds()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| RootError::Time { at })
}

/// A key of a manager, as rcgen wants to see it.
struct ManagedKey<'a> {
    keys: &'a dyn KeyManager,
    id: &'a KeyId,
    public: PublicKey,
}

impl rcgen::PublicKeyData for ManagedKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.octets()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        algorithm::for_rcgen(self.public.key_type())
    }
}

impl rcgen::SigningKey for ManagedKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.keys
            .sign(self.id, self.public.key_type().certificate_scheme(), message)
            .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
