//! What a CRL says, and whose it is. RFC 5280 §5.

use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::Validity;
use super::inspect::{InspectError, instant};
use crate::clock::Timestamp;
use crate::identity::TrustBundle;

/// When the first of a bundle's CRLs runs out: from then on nobody of that trust domain gets in. `None` without CRLs.
#[must_use]
pub fn first_end(bundle: &TrustBundle) -> Option<Timestamp> {
    let ends = || bundle.crls.iter().filter_map(|der| Some(Crl::parse(der).ok()?.validity.not_after)).min();
    *bundle.memo.get_or_derive("the first end of its CRLs", ends)
}

/// A CRL that can be read.
#[derive(Debug)]
pub struct Crl<'a> {
    parsed: CertificateRevocationList<'a>,
    /// From `thisUpdate` to `nextUpdate`.
    pub validity: Validity,
}

impl<'a> Crl<'a> {
    /// Parses one CRL with nothing behind it. One without `nextUpdate` is refused: RFC 5280 §5.1.2.5.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn parse(der: &'a [u8]) -> Result<Self, InspectError> {
        let malformed = |detail: String| InspectError::Malformed { detail };
        let (rest, parsed) =
            CertificateRevocationList::from_der(der).map_err(|e| malformed(e.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("octets behind the CRL".to_owned()));
        }
        let until = parsed.next_update().ok_or(InspectError::Lacks { part: "nextUpdate" })?;
        let validity = Validity { not_before: instant(parsed.last_update())?, not_after: instant(until)? };
        Ok(Self { parsed, validity })
    }

    /// The name of the CA that it is of, DER.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        self.parsed.issuer().as_raw()
    }

    /// Whether it lists all that its CA has revoked. A delta, and what covers some kinds of certificates only, say
    /// otherwise in a critical extension. RFC 5280 §5.2.4, §5.2.5.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.parsed.extensions().iter().all(|extension| !extension.critical)
    }

    /// Whether it is `issuer`'s: by name and by signature.
    #[must_use]
    pub fn is_of(&self, issuer: &X509Certificate<'_>) -> bool {
        self.is_named_as(issuer) && self.is_signed_by(issuer)
    }

    /// Whether it has `issuer`'s name.
    #[must_use]
    pub fn is_named_as(&self, issuer: &X509Certificate<'_>) -> bool {
        self.parsed.issuer().as_raw() == issuer.subject().as_raw()
    }

    /// Whether it is signed with `issuer`'s key.
    fn is_signed_by(&self, issuer: &X509Certificate<'_>) -> bool {
        let key = issuer.public_key().subject_public_key.data.as_ref();
        let signature = self.parsed.signature_value.data.as_ref();
        let oid = self.parsed.signature_algorithm.algorithm.as_bytes();
        // The contents of an AlgorithmIdentifier begin with its OID: tag, length, octets. A key of another algorithm
        // does not verify.
        webpki::ALL_VERIFICATION_ALGS
            .iter()
            .filter(|known| known.signature_alg_id().as_ref().get(2..).is_some_and(|id| id.starts_with(oid)))
            .any(|known| known.verify_signature(key, self.parsed.tbs_cert_list.as_ref(), signature).is_ok())
    }
}
