//! Whether a chain and its key may be served. No proxy checks its own certificate, and its peers' refusals come too late.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{ParsedExtension, X509Certificate};

use super::Validity;
use super::inspect::{self, InspectError};
use super::pair::{self, PairError};
use super::verify::{self, Role, VerifyError};
use crate::clock::Timestamp;
use crate::identity::{SpiffeId, TrustBundle};

/// What a chain that may be served says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Whom it proves.
    pub spiffe_id: SpiffeId,
    /// The DNS names that its leaf is for, as they stand there.
    pub dns_names: Vec<String>,
    /// When all of its certificates are valid.
    pub validity: Validity,
}

/// Why a chain and its key are not served.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ServedError {
    /// A certificate cannot be read.
    #[error("a certificate of the chain cannot be read")]
    Unreadable(#[from] InspectError),
    /// The key is not the leaf's, or of a kind that is refused.
    #[error("the chain and the key do not go together")]
    Pair(#[from] PairError),
    /// One certificate is not the issuer of the one before it.
    #[error("the chain is not in order: leaf first, then each certificate's issuer")]
    Order,
    /// A root is sent along. TLS peers have it already, or must not take it from us. RFC 8446 §4.4.2.
    #[error("the chain ends with a self-signed certificate")]
    Root,
    /// A certificate between leaf and root that cannot stand there.
    #[error("an intermediate is no CA for clients and servers")]
    Intermediate,
    /// No instant in which all of the chain is valid.
    #[error("the certificates of the chain are never valid at the same time")]
    NeverValid,
    /// It proves nothing to those who trust the bundle.
    #[error("the chain does not verify under its bundle")]
    Path(#[from] VerifyError),
}

/// Checks `chain` (leaf first) and its key `pkcs8` (DER) as a server's own: a valid X509-SVID under `bundle`, in order,
/// without its root, with a key that TLS peers take. Whether it is valid at `now` is left to the caller, who gets the
/// time: a chain that is not valid yet is checked as of when it will be.
///
/// # Errors
/// [`ServedError`].
pub fn check(
    chain: &[CertificateDer<'_>],
    pkcs8: &[u8],
    bundle: &TrustBundle,
    now: Timestamp,
) -> Result<Served, ServedError> {
    let certificates = chain.iter().map(inspect::parse).collect::<Result<Vec<_>, _>>()?;
    let Some(leaf) = certificates.first() else {
        return Err(VerifyError::Length { len: 0 }.into());
    };
    pair::check(leaf.public_key(), pkcs8)?;
    for pair in certificates.windows(2) {
        let [certificate, issuer] = pair else { continue };
        if certificate.issuer().as_raw() != issuer.subject().as_raw() {
            return Err(ServedError::Order);
        }
    }
    if chain.iter().any(|der| bundle.roots.contains(der)) || certificates.iter().any(is_self_signed) {
        return Err(ServedError::Root);
    }
    if !certificates.iter().skip(1).all(is_intermediate) {
        return Err(ServedError::Intermediate);
    }
    let mut validity: Option<Validity> = None;
    for certificate in &certificates {
        let own = inspect::validity(certificate)?;
        validity = Some(validity.map_or(own, |all| all.within(own)));
    }
    let validity = validity.filter(|v| v.not_before <= v.not_after).ok_or(ServedError::NeverValid)?;
    let at = now.clamp(validity.not_before, validity.not_after);
    // Its leaf has both purposes, or none is named (X509-SVID §4.4); so have its intermediates.
    let spiffe_id = verify::verify(chain, [bundle], Role::Client, at)?;
    let dns_names =
        chain.first().map(inspect::leaf).transpose()?.map(|leaf| leaf.dns_names).unwrap_or_default();
    Ok(Served { spiffe_id, dns_names, validity })
}

/// RFC 5280 §3.2. The CAs of SPIRE can all have one name: their key identifiers tell them apart.
fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    let (mut own, mut issuer) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0),
            ParsedExtension::AuthorityKeyIdentifier(id) => issuer = id.key_identifier.as_ref().map(|id| id.0),
            _ => {}
        }
    }
    let is_own_key = own.zip(issuer).is_none_or(|(own, issuer)| own == issuer);
    certificate.issuer().as_raw() == certificate.subject().as_raw() && is_own_key
}

fn is_intermediate(certificate: &X509Certificate<'_>) -> bool {
    certificate.is_ca()
        && certificate.extensions().iter().all(|e| match e.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => usage.key_cert_sign(),
            ParsedExtension::ExtendedKeyUsage(eku) => eku.any || (eku.server_auth && eku.client_auth),
            ParsedExtension::ParseError { .. } => false,
            _ => true,
        })
}
