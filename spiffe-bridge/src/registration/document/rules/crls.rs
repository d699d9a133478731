//! The CRLs of another trust domain, as its operator publishes them: all that its roots need, or none.

use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::x509::crl::Crl;
use crate::x509::inspect;

/// The most CRLs of one trust domain: one of each root, and as many of CAs below them.
pub(in crate::registration) const MAX_CRLS: usize = 256;

/// The CRLs in `text`, PEM, that go with `roots`. Once Envoy has one CRL it refuses every chain with an issuer that has
/// none, so that each root must have its own; that of a CA below cannot be held against it here.
pub(in crate::registration) fn crls(
    text: &str,
    roots: &[CertificateDer<'static>],
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let sections = sections.map_err(|error| format!("not PEM ({error}): paste the X509 CRL blocks"))?;
    if sections.is_empty() || sections.iter().any(|(kind, _)| *kind != SectionKind::Crl) {
        return Err("paste X509 CRL blocks, and nothing else: roots stand under bundle".to_owned());
    }
    if sections.len() > MAX_CRLS {
        return Err(format!("{} CRLs: at most {MAX_CRLS} are taken", sections.len()));
    }
    let ders: Vec<_> = sections.into_iter().map(|(_, der)| CertificateRevocationListDer::from(der)).collect();
    let mut read = Vec::<Crl<'_>>::with_capacity(ders.len());
    for (at, der) in ders.iter().enumerate() {
        let crl = Crl::parse(der).map_err(|error| format!("CRL {}: {error}", at + 1))?;
        if !crl.is_whole() {
            return Err(format!(
                "CRL {} lists a part only, or changes: give the full list of its CA",
                at + 1
            ));
        }
        if let Some(twin) = read.iter().position(|other| other.issuer() == crl.issuer()) {
            return Err(format!("CRLs {} and {} are of one CA: keep the newer", twin + 1, at + 1));
        }
        read.push(crl);
    }
    for (number, root) in (1..).zip(roots) {
        let Ok(root) = inspect::parse(root) else { continue }; // was a trust anchor a moment ago
        if !read.iter().any(|crl| crl.is_of(&root)) {
            let name = root.subject().to_string().escape_debug().to_string();
            return Err(format!(
                "no CRL of root {number} ({}) that it signed: give one of each root, or leave crls out",
                super::short(&name)
            ));
        }
    }
    Ok(ders)
}
