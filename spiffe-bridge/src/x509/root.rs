//! CA certificates, a root that signs itself and an issuing CA below it: rcgen writes them, a key manager signs them.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, KeyUsagePurpose,
    SanType, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::ParsedExtension;

use super::inspect::{self, InspectError};
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
    #[error("the CA certificate could not be made")]
    Rcgen(#[from] rcgen::Error),
    /// A CA certificate cannot be read.
    #[error("a CA certificate cannot be read back")]
    Unreadable(#[from] InspectError),
    /// What was made is not what was asked for.
    #[error("the issuing CA's certificate breaks {rule}: it is not used; report this")]
    Broken {
        /// The clause.
        rule: &'static str,
    },
}

/// What an issuing CA's certificate is to say.
#[derive(Debug, Clone)]
pub struct Issuing<'a> {
    /// Whose CA it is: the root's.
    pub trust_domain: &'a TrustDomain,
    /// When it is valid: within the root's validity.
    pub validity: Validity,
    /// Its key.
    pub public_key: &'a PublicKey,
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
    let mut params = ca_params(root.trust_domain, root.validity, "root", root.depth)?;
    params.use_authority_key_identifier_extension = false; // §4.2.1.1: self-signed
    if root.name_constraints == NameConstraints::OwnTrustDomain {
        params.custom_extensions.push(constraint(root.trust_domain.as_str()));
    }
    let signer = ManagedKey { keys, id, public: keys.public(id)? };
    Ok(params.self_signed(&signer)?.der().clone())
}

/// Makes the certificate of an issuing CA, signed by the key `id` of `root`. No CA stands below it: RFC 5280 §4.2.1.9.
///
/// # Errors
/// [`RootError`].
pub fn sign_below(
    issuing: &Issuing<'_>,
    root: &CertificateDer<'_>,
    keys: &dyn KeyManager,
    id: &KeyId,
) -> Result<CertificateDer<'static>, RootError> {
    let mut params = ca_params(issuing.trust_domain, issuing.validity, "issuing", 0)?;
    params.use_authority_key_identifier_extension = true; // §4.2.1.1
    let signer = ManagedKey { keys, id, public: keys.public(id)? };
    let issuer = rcgen::Issuer::from_ca_cert_der(root, signer)?;
    let certificate = params.signed_by(&Subject(issuing.public_key), &issuer)?.der().clone();
    check_below(&certificate, root, issuing)?;
    Ok(certificate)
}

/// rcgen writes the root's name and key identifier anew: what stands in a chain must be the same octets.
fn check_below(
    certificate: &CertificateDer<'_>,
    root: &CertificateDer<'_>,
    issuing: &Issuing<'_>,
) -> Result<(), RootError> {
    let (above, facts) = (inspect::ca(root)?, inspect::ca(certificate)?);
    let parsed = inspect::parse(certificate)?;
    let authority = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(aki) => {
            Some(aki.key_identifier.as_ref()?.0 == above.key_identifier)
        }
        _ => None,
    });
    let within = above.validity.not_before <= facts.validity.not_before
        && facts.validity.not_after <= above.validity.not_after;
    let rules = [
        ("RFC 5280 §4.1.2.4 (issuer)", parsed.issuer().as_raw() == above.subject),
        ("RFC 5280 §4.2.1.1 (authority key identifier)", authority == Some(true)),
        (
            "RFC 5280 §4.2.1.2 (subject key identifier)",
            facts.key_identifier == issuing.public_key.key_identifier(),
        ),
        ("RFC 5280 §4.1.2.7 (key)", facts.public_key == *issuing.public_key),
        ("RFC 5280 §4.1.2.5 (within the root's validity)", within),
    ];
    match rules.into_iter().find(|(_, kept)| !kept) {
        Some((rule, _)) => Err(RootError::Broken { rule }),
        None => Ok(()),
    }
}

/// What all our CA certificates say.
fn ca_params(
    trust_domain: &TrustDomain,
    validity: Validity,
    what: &str,
    depth: u8,
) -> Result<CertificateParams, RootError> {
    let domain = trust_domain.as_str();
    let serial = random_serial()?;
    let mut params = CertificateParams::default();
    params.not_before = moment(validity.not_before)?;
    params.not_after = moment(validity.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(serial.octets())); // or rcgen repeats them
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Countersign");
    // X.520 lets a common name have 64 characters. The serial tells the CAs of a domain apart.
    let short: String = domain.chars().take(43).collect();
    let tail: String = serial.to_string().chars().take(12).collect();
    params.distinguished_name.push(DnType::CommonName, format!("{short} {what} {tail}"));
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)]; // X509-SVID §3.2
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth)); // RFC 5280 §4.2.1.9
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
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

/// A public key, as rcgen wants to see it.
struct Subject<'a>(&'a PublicKey);

impl rcgen::PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.octets()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        algorithm::for_rcgen(self.0.key_type())
    }
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
