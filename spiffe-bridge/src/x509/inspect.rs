//! What a certificate says, read by x509-parser.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::Validity;
use crate::clock::Timestamp;
use crate::identity::Serial;
use crate::keys::PublicKey;

/// What leaves need to know of the CA that signs them.
#[derive(Debug, Clone)]
pub struct CaFacts {
    /// The subject, DER: the issuer of its leaves, octet for octet.
    pub subject: Vec<u8>,
    /// The subject, for people.
    pub subject_text: String,
    /// The subject key identifier.
    pub key_identifier: Vec<u8>,
    /// Its own serial number.
    pub serial: Serial,
    /// When it is valid.
    pub validity: Validity,
    /// Its key.
    pub public_key: PublicKey,
}

/// What a leaf says.
#[derive(Debug, Clone)]
pub struct LeafFacts {
    /// The serial number.
    pub serial: Serial,
    /// When it is valid.
    pub validity: Validity,
    /// The URI SANs. One, if it is an SVID.
    pub uris: Vec<String>,
    /// The DNS SANs.
    pub dns_names: Vec<String>,
}

/// Why a certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Not DER, or not one whole certificate.
    #[error("not a certificate in DER: {detail}")]
    Malformed {
        /// What the parser says.
        detail: String,
    },
    /// A part that it must have is missing or wrong.
    #[error("the certificate has no usable {part}")]
    Lacks {
        /// Which part.
        part: &'static str,
    },
}

/// Parses one certificate with nothing behind it.
///
/// # Errors
/// [`InspectError::Malformed`].
pub fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, InspectError> {
    let (rest, certificate) = X509Certificate::from_der(der.as_ref())
        .map_err(|e| InspectError::Malformed { detail: e.to_string() })?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(InspectError::Malformed { detail: "octets behind the certificate".to_owned() })
    }
}

/// The facts of a CA certificate. Whether it is trusted is not asked here.
///
/// # Errors
/// [`InspectError`] if it is malformed, or has no subject key identifier or no key of a type known here.
pub fn ca(der: &CertificateDer<'_>) -> Result<CaFacts, InspectError> {
    let certificate = parse(der)?;
    let key_identifier = certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    let subject = certificate.subject();
    if subject.iter().next().is_none() {
        return Err(InspectError::Lacks { part: "subject" }); // RFC 5280 §4.1.2.6
    }
    Ok(CaFacts {
        subject: subject.as_raw().to_vec(),
        subject_text: subject.to_string(),
        key_identifier: key_identifier.ok_or(InspectError::Lacks { part: "subject key identifier" })?,
        serial: serial(&certificate)?,
        validity: validity(&certificate)?,
        public_key: PublicKey::from_spki(certificate.public_key().raw)
            .map_err(|_| InspectError::Lacks { part: "key of a type that is known here" })?,
    })
}

/// Whether the CA `issuer` signed `der`: its name and its signature. Nothing else of a path is looked at.
///
/// # Errors
/// [`InspectError`] with what does not fit.
pub fn signed_by(der: &CertificateDer<'_>, issuer: &CaFacts) -> Result<(), InspectError> {
    let certificate = parse(der)?;
    if certificate.issuer().as_raw() != issuer.subject {
        return Err(InspectError::Lacks { part: "issuer: it names another" });
    }
    let (key, signature) = (&issuer.public_key, &certificate.signature_value.data);
    let scheme = key.key_type().certificate_scheme();
    key.verify(scheme, certificate.tbs_certificate.as_ref(), signature)
        .map_err(|_| InspectError::Lacks { part: "signature of its issuer" })
}

/// Whether `der` can stand as a trust anchor: a CA by its own word, of any key type, that webpki takes.
/// Whether it is valid now is not asked here: one that has expired only verifies nothing.
///
/// # Errors
/// [`InspectError`] with the part that it lacks. X509-SVID §4.1.
pub fn trust_anchor(der: &CertificateDer<'_>) -> Result<(), InspectError> {
    let certificate = parse(der)?;
    let malformed = |e: String| InspectError::Malformed { detail: e };
    let basic = certificate.basic_constraints().map_err(|e| malformed(e.to_string()))?;
    if !basic.is_some_and(|b| b.value.ca) {
        return Err(InspectError::Lacks { part: "CA flag: it is a leaf" });
    }
    let usage = certificate.key_usage().map_err(|e| malformed(e.to_string()))?;
    if usage.is_some_and(|u| !u.value.key_cert_sign()) {
        return Err(InspectError::Lacks { part: "key usage keyCertSign" });
    }
    webpki::anchor_from_trusted_cert(der).map(drop).map_err(|e| malformed(e.to_string()))
}

/// The facts of a leaf. Whether it is valid is not asked here.
///
/// # Errors
/// [`InspectError`].
pub fn leaf(der: &CertificateDer<'_>) -> Result<LeafFacts, InspectError> {
    let certificate = parse(der)?;
    let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
    for name in san(&certificate)? {
        match name {
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => dns_names.push((*dns).to_owned()),
            _ => {}
        }
    }
    Ok(LeafFacts { serial: serial(&certificate)?, validity: validity(&certificate)?, uris, dns_names })
}

/// The first moment at which a certificate is not valid any more.
///
/// # Errors
/// [`InspectError`].
pub fn not_after(der: &CertificateDer<'_>) -> Result<Timestamp, InspectError> {
    // RFC 5280 §4.1.2.5: the last second is valid.
    Ok(validity(&parse(der)?)?.not_after + std::time::Duration::from_secs(1))
}

/// The subject public key, DER: what makes two certificates those of one holder.
///
/// # Errors
/// [`InspectError`].
pub fn subject_key(der: &CertificateDer<'_>) -> Result<Vec<u8>, InspectError> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

/// All subject alternative names; none if there is no such extension.
pub(super) fn san<'c, 'a>(
    certificate: &'c X509Certificate<'a>,
) -> Result<&'c [GeneralName<'a>], InspectError> {
    let found = certificate.subject_alternative_name();
    let found = found.map_err(|e| InspectError::Malformed { detail: e.to_string() })?;
    Ok(found.map_or(&[], |extension| extension.value.general_names.as_slice()))
}

fn serial(certificate: &X509Certificate<'_>) -> Result<Serial, InspectError> {
    Serial::from_octets(certificate.raw_serial()).ok_or(InspectError::Lacks { part: "serial number" })
}

/// When a certificate is valid.
///
/// # Errors
/// [`InspectError::Lacks`] if it is of a time before 1970.
pub fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, InspectError> {
    let found = certificate.validity();
    Ok(Validity { not_before: instant(found.not_before)?, not_after: instant(found.not_after)? })
}

pub(super) fn instant(time: x509_parser::time::ASN1Time) -> Result<Timestamp, InspectError> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| InspectError::Lacks { part: "validity" })?;
    Ok(Timestamp::from_unix_seconds(seconds))
}
