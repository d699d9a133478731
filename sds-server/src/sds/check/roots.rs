//! Roots, and the CRLs that may stand among them.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use rustls::pki_types::CertificateDer;
use spiffe_bridge::x509::Validity;
use spiffe_bridge::x509::crl::Crl;
use spiffe_bridge::x509::inspect::{self, InspectError};

use super::super::pem;
use super::{ALWAYS, CheckError, inline};

/// The names of the roots go out with each CertificateRequest, in an extension whose length, and that of all extensions
/// together, is of 16 bits. RFC 8446 §4.2.4; what is left is for the others.
const MAX_CA_LIST_BYTES: usize = 60_000;

/// Whether a handshake can list these names of roots (DER), each once.
pub(super) fn fit_in_a_handshake<'a>(names: impl Iterator<Item = &'a [u8]>) -> bool {
    let names: BTreeSet<_> = names.collect();
    names.iter().map(|name| name.len() + 2).sum::<usize>() <= MAX_CA_LIST_BYTES
}

/// Whether these roots must go out with the list of their names suppressed. Only then: in a static listener Envoy 1.36
/// refuses a secret with that field, which it does not know.
pub(in crate::sds) fn are_too_many_to_list<'a>(
    roots: impl Iterator<Item = &'a CertificateDer<'static>>,
) -> bool {
    let roots: Vec<_> = roots.filter_map(|root| inspect::parse(root).ok()).collect();
    !fit_in_a_handshake(roots.iter().map(|root| root.subject().as_raw()))
}

/// What was found of roots that may be sent.
pub(super) struct Roots {
    /// While one of them is valid and every CRL is current. With no valid root everybody is refused.
    pub(super) validity: Validity,
    /// Their names, DER.
    pub(super) names: Vec<Vec<u8>>,
}

/// Reads `ca`, roots and CRLs, and `crls`, CRLs alone.
pub(super) fn read(ca: &DataSource, crls: Option<&DataSource>) -> Result<Roots, CheckError> {
    let mut documents = pem::read(inline(ca)?).ok_or(CheckError::Pem)?;
    let roots: Vec<_> = documents
        .extract_if(.., |(label, _)| *label == "CERTIFICATE")
        .map(|(_, der)| CertificateDer::from(der.to_vec()))
        .collect();
    if let Some(crls) = crls {
        documents.extend(pem::read(inline(crls)?).ok_or(CheckError::Pem)?);
    }
    if documents.iter().any(|(label, _)| *label != "X509 CRL") {
        return Err(CheckError::Pem);
    }
    let mut validity: Option<Validity> = None;
    let mut parsed = Vec::with_capacity(roots.len());
    for der in &roots {
        inspect::trust_anchor(der).map_err(|error| match error {
            InspectError::Lacks { .. } => CheckError::RootNotCa,
            InspectError::Malformed { .. } => CheckError::RootUnreadable,
        })?;
        let root = inspect::parse(der).map_err(|_| CheckError::RootUnreadable)?;
        let own = inspect::validity(&root).map_err(|_| CheckError::RootUnreadable)?;
        parsed.push(root);
        validity = Some(validity.map_or(own, |all| union(all, own)));
    }
    let validity = validity.ok_or(CheckError::NoRoots)?;
    let crls: Vec<_> = documents
        .iter()
        .map(|(_, der)| Crl::parse(der))
        .collect::<Result<_, _>>()
        .map_err(|_| CheckError::CrlUnreadable)?;
    // With one CRL, every issuer needs one (envoy-sds.md §1.2).
    if !crls.is_empty() && !parsed.iter().all(|root| crls.iter().any(|crl| crl.is_of(root))) {
        return Err(CheckError::CrlCoverage);
    }
    // One of an intermediate's is not ours to verify: its certificate is not here.
    let is_forged = |crl: &&Crl<'_>| {
        parsed.iter().any(|root| crl.is_named_as(root)) && !parsed.iter().any(|root| crl.is_of(root))
    };
    if crls.iter().any(|crl| is_forged(&crl)) {
        return Err(CheckError::CrlUnreadable);
    }
    let current = crls.iter().fold(ALWAYS, |all, crl| all.within(crl.validity));
    Ok(Roots {
        validity: validity.within(current),
        names: parsed.iter().map(|root| root.subject().as_raw().to_vec()).collect(),
    })
}

/// The roots of both, while one of them is of use.
pub(super) fn either(mut a: Roots, b: Roots) -> Roots {
    a.names.extend(b.names);
    Roots { validity: union(a.validity, b.validity), names: a.names }
}

/// From the earlier beginning to the later end.
fn union(a: Validity, b: Validity) -> Validity {
    Validity { not_before: a.not_before.min(b.not_before), not_after: a.not_after.max(b.not_after) }
}
