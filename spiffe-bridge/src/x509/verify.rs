//! Path validation: RFC 5280 by rustls-webpki, and the rules that SPIFFE adds.

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate};

use super::inspect::{self, InspectError};
use crate::clock::Timestamp;
use crate::identity::{SpiffeId, TrustBundle};

/// The most certificates in a chain that is looked at; webpki bounds the work on them.
pub(crate) const MAX_CHAIN: usize = 8;

/// What the peer does in the handshake, and so which purpose its certificate needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It connected.
    Client,
    /// It was connected to.
    Server,
}

/// Why a chain does not prove an identity. The fault is the peer's.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// No certificates, or too many.
    #[error("a chain of {len} certificates: 1 to {MAX_CHAIN} are taken")]
    Length {
        /// How many there are.
        len: usize,
    },
    /// A certificate cannot be read.
    #[error("a certificate of the chain cannot be read")]
    Unreadable(#[from] InspectError),
    /// A rule of X509-SVID is broken.
    #[error("the chain breaks {rule}")]
    NotAnSvid {
        /// The clause.
        rule: &'static str,
    },
    /// The URI SAN is not a SPIFFE ID.
    #[error("the certificate's URI is not a SPIFFE ID")]
    BadId(#[source] spiffe::SpiffeIdError),
    /// There is no bundle for the SVID's trust domain.
    #[error("no bundle for the trust domain {trust_domain:?}: federate with it, or refuse its workloads")]
    UnknownTrustDomain {
        /// The domain.
        trust_domain: String,
    },
    /// The path is not valid.
    #[error("the certificate path is not valid")]
    Path(#[source] webpki::Error),
}

/// Verifies `chain` (leaf first) at `now`, and returns whom it proves. Of `bundles` only that of the
/// SVID's own trust domain is looked at (invariant 9).
///
/// # Errors
/// [`VerifyError`].
pub fn verify<'b>(
    chain: &[CertificateDer<'_>],
    bundles: impl IntoIterator<Item = &'b TrustBundle>,
    role: Role,
    now: Timestamp,
) -> Result<SpiffeId, VerifyError> {
    verify_until(chain, bundles, role, now).map(|(id, _)| id)
}

/// The same, and the first moment at which a certificate of the path has expired.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_until<'b>(
    chain: &[CertificateDer<'_>],
    bundles: impl IntoIterator<Item = &'b TrustBundle>,
    role: Role,
    now: Timestamp,
) -> Result<(SpiffeId, Timestamp), VerifyError> {
    let (leaf, intermediates) = chain
        .split_first()
        .filter(|_| chain.len() <= MAX_CHAIN)
        .ok_or(VerifyError::Length { len: chain.len() })?;
    let id = leaf_identity(&inspect::parse(leaf)?)?;
    for certificate in intermediates {
        check_signer(&inspect::parse(certificate)?, &id)?;
    }
    let own = bundles.into_iter().find(|bundle| bundle.trust_domain == *id.trust_domain());
    let unknown = || VerifyError::UnknownTrustDomain { trust_domain: id.trust_domain().to_string() };
    let bundle = own.ok_or_else(unknown)?;
    let anchors: Vec<_> =
        bundle.roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let usage = match role {
        Role::Client => KeyUsage::client_auth(),
        Role::Server => KeyUsage::server_auth(),
    };
    let until = path(leaf, intermediates, &anchors, usage, now)?;
    Ok((id, until))
}

/// Verifies that `chain` (leaf first) is of a TLS client under one of `anchors` at `now`, whatever names it has, and
/// returns the first moment at which a certificate of the path has expired.
///
/// # Errors
/// [`VerifyError`].
pub fn client_path(
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: Timestamp,
) -> Result<Timestamp, VerifyError> {
    let (leaf, intermediates) = chain
        .split_first()
        .filter(|_| chain.len() <= MAX_CHAIN)
        .ok_or(VerifyError::Length { len: chain.len() })?;
    path(leaf, intermediates, anchors, KeyUsage::client_auth(), now)
}

/// RFC 5280 §6, and the first moment at which a certificate of the path has expired.
fn path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    usage: KeyUsage,
    now: Timestamp,
) -> Result<Timestamp, VerifyError> {
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now.unix_millis()));
    let end = EndEntityCert::try_from(leaf).map_err(VerifyError::Path)?;
    let path = end
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, anchors, intermediates, at, usage, None, None)
        .map_err(VerifyError::Path)?;
    path.intermediate_certificates()
        .try_fold(inspect::not_after(leaf)?, |first, der| Ok(first.min(inspect::not_after(&der.der())?)))
}

/// The SPIFFE ID of a leaf that keeps the rules of X509-SVID §5.2.
fn leaf_identity(leaf: &X509Certificate<'_>) -> Result<SpiffeId, VerifyError> {
    let broken = |rule| Err(VerifyError::NotAnSvid { rule });
    let mut constrained = false;
    for extension in leaf.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(bc) if bc.ca => {
                return broken("X509-SVID §4.1 (a leaf has no cA)");
            }
            ParsedExtension::KeyUsage(usage) => {
                if usage.key_cert_sign() || usage.crl_sign() {
                    return broken("X509-SVID §4.3 (a leaf signs no certificates or CRLs)");
                }
                constrained = extension.critical && usage.digital_signature();
            }
            ParsedExtension::ExtendedKeyUsage(eku) if !(eku.server_auth && eku.client_auth) => {
                return broken("X509-SVID §4.4 (both serverAuth and clientAuth)");
            }
            ParsedExtension::NameConstraints(_) => {
                return broken("RFC 5280 §4.2.1.10 (name constraints in a leaf)");
            }
            // A parser that gives up here must not make an extension invisible.
            ParsedExtension::ParseError { .. } => {
                return broken("RFC 5280 §4.2 (an extension cannot be read)");
            }
            _ => {}
        }
    }
    if !constrained {
        return broken("X509-SVID §4.3 (critical key usage with digitalSignature)");
    }
    let mut uris = uris(leaf)?;
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return broken("X509-SVID §2 (exactly one URI)");
    };
    let id = SpiffeId::new(uri).map_err(VerifyError::BadId)?; // §5.2: the scheme too
    if id.path().is_empty() {
        return broken("X509-SVID §5.2 (a leaf's SPIFFE ID has a path)");
    }
    Ok(id)
}

/// What a signing certificate between leaf and root must keep. X509-SVID §3.2.
fn check_signer(signer: &X509Certificate<'_>, leaf: &SpiffeId) -> Result<(), VerifyError> {
    for extension in signer.extensions() {
        if matches!(extension.parsed_extension(), ParsedExtension::NameConstraints(_)) && !extension.critical
        {
            return Err(VerifyError::NotAnSvid {
                rule: "RFC 5280 §4.2.1.10 (name constraints are critical)",
            });
        }
    }
    for uri in uris(signer)?.filter(|uri| uri.starts_with("spiffe:")) {
        let id = SpiffeId::new(uri).map_err(VerifyError::BadId)?;
        if !id.path().is_empty() {
            return Err(VerifyError::NotAnSvid {
                rule: "X509-SVID §3.2 (a signer's SPIFFE ID has no path)"
            });
        }
        if id.trust_domain() != leaf.trust_domain() {
            return Err(VerifyError::NotAnSvid {
                rule: "X509-SVID §3.2 (a signer is of its leaf's trust domain)",
            });
        }
    }
    Ok(())
}

fn uris<'c>(certificate: &'c X509Certificate<'_>) -> Result<impl Iterator<Item = &'c str>, VerifyError> {
    Ok(inspect::san(certificate)?.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    }))
}
