//! A certificate authority that is not Countersign's: the operator's, or a stranger's.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use data_encoding::{BASE64, Encoding, Specification};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::PrivateKeyDer;

use crate::stranger::Credential;

const HOUR: Duration = Duration::from_secs(3600);
/// The subject of who is known by other names.
const NOBODY: &[(DnType, &str)] = &[(DnType::CommonName, "not of Countersign")];

/// Its own certificate is self-signed.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    /// A CA called `name`, with the URI that it is known by, if it has one.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(name: &str, uri: Option<&str>) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = uri
            .map(|uri| Ok::<_, anyhow::Error>(SanType::URI(uri.try_into()?)))
            .transpose()?
            .into_iter()
            .collect();
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A leaf for `uri`, right for both sides of TLS, that is valid for `life` from now on.
    ///
    /// # Errors
    /// No key can be made, or the URI cannot stand in a certificate.
    pub fn issue(&self, uri: &str, life: Duration) -> Result<Credential> {
        self.issue_until(uri, SystemTime::now() + life)
    }

    /// The same, valid until `end`, which may be past.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn issue_until(&self, uri: &str, end: SystemTime) -> Result<Credential> {
        self.leaf(NOBODY, vec![SanType::URI(uri.try_into()?)], end)
    }

    /// The same for a server at `address`, for an hour.
    ///
    /// # Errors
    /// No key can be made.
    pub fn issue_at(&self, address: IpAddr) -> Result<Credential> {
        self.leaf(NOBODY, vec![SanType::IpAddress(address)], SystemTime::now() + HOUR)
    }

    /// The same for a server called `name`.
    ///
    /// # Errors
    /// No key can be made, or the name cannot stand in a certificate.
    pub fn issue_named(&self, name: &str) -> Result<Credential> {
        self.leaf(NOBODY, vec![SanType::DnsName(name.try_into()?)], SystemTime::now() + HOUR)
    }

    /// A leaf for the user `name` of `group`, as Kubernetes reads them from the subject, for an hour.
    ///
    /// # Errors
    /// No key can be made.
    pub fn issue_user(&self, name: &str, group: &str) -> Result<Credential> {
        let subject = [(DnType::CommonName, name), (DnType::OrganizationName, group)];
        self.leaf(&subject, Vec::new(), SystemTime::now() + HOUR)
    }

    fn leaf(&self, subject: &[(DnType, &str)], names: Vec<SanType>, end: SystemTime) -> Result<Credential> {
        let mut params = CertificateParams::default();
        for (kind, text) in subject {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = (SystemTime::now() - Duration::from_secs(600)).into();
        params.not_after = end.into();
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.0)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok(Credential { chain: vec![leaf.der().clone()], key })
    }

    /// The PEM of its CRL `number`, which lists the leaves of `revoked` and runs out at `end`.
    ///
    /// # Errors
    /// A leaf is not a certificate.
    pub fn crl(&self, number: u64, revoked: &[&Credential], end: SystemTime) -> Result<String> {
        let (now, mut revoked_certs) = (SystemTime::now(), Vec::new());
        for credential in revoked {
            let (_, leaf) =
                x509_parser::parse_x509_certificate(credential.chain.first().context("an empty chain")?)?;
            revoked_certs.push(RevokedCertParams {
                serial_number: SerialNumber::from_slice(leaf.raw_serial()),
                revocation_time: now.into(),
                reason_code: None,
                invalidity_date: None,
            });
        }
        let params = CertificateRevocationListParams {
            this_update: (now - Duration::from_secs(600)).into(),
            next_update: end.into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(pem("X509 CRL", params.signed_by(&self.0)?.der()))
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(..)")
    }
}

/// Writes the chain and the key of `credential` as PEM files of `name` in `dir`, for any user to read: a test's Envoy
/// may have one of its own.
///
/// # Errors
/// The directory cannot be written.
pub fn write(credential: &Credential, dir: &Path, name: &str) -> Result<[PathBuf; 2]> {
    let chain: String = credential.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    let key = pem("PRIVATE KEY", credential.key.secret_der());
    let paths = [dir.join(format!("{name}.pem")), dir.join(format!("{name}.key"))];
    for (path, text) in paths.iter().zip([chain, key]) {
        fs::write(path, text)?;
    }
    Ok(paths)
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let mut specification: Specification = BASE64.specification();
    specification.wrap.width = 64;
    specification.wrap.separator = "\n".into();
    let body =
        specification.encoding().as_ref().map(|base64: &Encoding| base64.encode(der)).unwrap_or_default();
    format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
}
