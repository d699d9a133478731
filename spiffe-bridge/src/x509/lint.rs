//! The lint: a template signs one leaf a type of key with a throw-away key, and every rule is checked on that.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate, X509Version};

use super::inspect::{self, InspectError};
use super::{CaFacts, DnsNames, Draft, Leaf, Template, TemplateError, TimeError, assemble, random_serial};
use crate::identity::SpiffeId;
use crate::keys::{KeyError, KeyId, KeyManager, KeyType, MemoryKeys, PublicKey, workload};

/// Why a template is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LintError {
    /// A rule is broken.
    #[error("the leaf template breaks {rule}: nothing is signed with it; report this")]
    Broken {
        /// The clause.
        rule: &'static str,
    },
    /// The specimen could not be made.
    #[error("no specimen of the leaf template could be made")]
    Key(#[from] KeyError),
    /// The issuer's validity cannot be written.
    #[error("no specimen of the leaf template could be made")]
    Time(#[from] TimeError),
    /// The specimen cannot be read back.
    #[error("the leaf template makes what no parser reads")]
    Unreadable(#[from] InspectError),
}

/// Checks `draft`, the template for leaves of `issuer`, on a leaf of `spiffe_id` that has a P-256 key. Other
/// types of keys are checked when the first leaf with one is made.
///
/// # Errors
/// [`LintError`].
pub fn lint(draft: Draft, issuer: &CaFacts, spiffe_id: &SpiffeId) -> Result<Template, LintError> {
    let key = workload::generate(KeyType::EcP256)?;
    let template = Template::new(draft, Linter::new(issuer.clone(), spiffe_id.clone())?);
    match template.check(&key.public) {
        Ok(()) => Ok(template),
        Err(TemplateError::Lint { source, .. }) => Err(source),
        Err(TemplateError::Time(error)) => Err(error.into()),
    }
}

/// Signs specimens in an issuer's place, with a throw-away key: one of the issuer's type that is made here,
/// is never written down, and that nobody trusts.
#[derive(Debug)]
pub(super) struct Linter {
    issuer: CaFacts,
    spiffe_id: SpiffeId,
    keys: MemoryKeys,
    key: KeyId,
}

impl Linter {
    fn new(issuer: CaFacts, spiffe_id: SpiffeId) -> Result<Self, LintError> {
        let (keys, key) = (MemoryKeys::new(), "throw-away".parse::<KeyId>()?);
        keys.generate(&key, issuer.public_key.key_type())?;
        Ok(Self { issuer, spiffe_id, keys, key })
    }

    /// Signs a leaf of `draft` with `public_key` and checks it.
    pub(super) fn lint(
        &self,
        draft: &Draft,
        public_key: &PublicKey,
    ) -> Result<CertificateDer<'static>, LintError> {
        let dns_names = DnsNames::parse(&["lint.invalid"]).unwrap_or_default();
        let serial = random_serial()?;
        let (validity, spiffe_id) = (self.issuer.validity, &self.spiffe_id);
        let leaf = Leaf { serial: &serial, validity, public_key, spiffe_id, dns_names: &dns_names };
        let tbs = draft.tbs(&leaf)?;
        let signer = self.issuer.public_key.key_type();
        let signature = self.keys.sign(&self.key, signer.certificate_scheme(), &tbs)?;
        let specimen = assemble(&tbs, signer, &signature);
        check(&specimen, &self.issuer, &leaf)?;
        Ok(specimen)
    }
}

/// Checks that the certificate says what `leaf` and `issuer` are, and nothing else.
fn check(der: &CertificateDer<'_>, issuer: &CaFacts, leaf: &Leaf<'_>) -> Result<(), LintError> {
    let cert = inspect::parse(der)?;
    let tbs = &cert.tbs_certificate;
    let rules = [
        ("RFC 5280 §4.1.2.1 (version)", tbs.version == X509Version::V3),
        ("RFC 5280 §4.1.1.2 (signature algorithm)", cert.signature_algorithm == tbs.signature),
        ("RFC 5280 §4.1.2.2 (serial number)", tbs.raw_serial() == leaf.serial.octets()),
        ("RFC 5280 §4.1.2.4 (issuer)", tbs.issuer.as_raw() == issuer.subject),
        ("RFC 5280 §4.1.2.5 (validity)", inspect::leaf(der)?.validity == leaf.validity),
        ("X509-SVID §3.1 (empty subject)", tbs.subject.iter().next().is_none()),
        ("RFC 5280 §4.1.2.7 (key)", tbs.subject_pki.raw == leaf.public_key.spki()),
        ("RFC 5280 §4.1.2.8 (unique identifiers)", tbs.issuer_uid.is_none() && tbs.subject_uid.is_none()),
    ];
    let extensions = extension_rules(&cert, issuer, leaf);
    match rules.into_iter().chain(extensions).find(|(_, kept)| !kept) {
        Some((rule, _)) => Err(LintError::Broken { rule }),
        None => Ok(()),
    }
}

/// Exactly six extensions, each once, each as it must be.
fn extension_rules<'c>(
    cert: &'c X509Certificate<'_>,
    issuer: &'c CaFacts,
    leaf: &'c Leaf<'_>,
) -> impl Iterator<Item = (&'static str, bool)> + 'c {
    let has = |critical: bool, test: &dyn Fn(&ParsedExtension<'_>) -> bool| {
        cert.extensions().iter().any(|e| e.critical == critical && test(e.parsed_extension()))
    };
    let ski = leaf.public_key.key_identifier();
    [
        ("RFC 5280 §4.2 (extensions)", cert.extensions_map().is_ok_and(|map| map.len() == 6)),
        ("RFC 5280 §4.2 (extensions)", cert.extensions().len() == 6),
        (
            "RFC 5280 §4.2.1.1 (authority key identifier)",
            has(false, &|e| {
                matches!(e, ParsedExtension::AuthorityKeyIdentifier(aki)
                    if aki.key_identifier.as_ref().is_some_and(|id| id.0 == issuer.key_identifier))
            }),
        ),
        (
            "RFC 5280 §4.2.1.2 (subject key identifier)",
            has(false, &|e| matches!(e, ParsedExtension::SubjectKeyIdentifier(id) if id.0 == ski)),
        ),
        (
            "X509-SVID §4.3 (key usage)",
            has(true, &|e| matches!(e, ParsedExtension::KeyUsage(usage) if usage.flags == 1)),
        ),
        (
            "X509-SVID §4.4 (extended key usage)",
            has(false, &|e| {
                matches!(e, ParsedExtension::ExtendedKeyUsage(eku)
                    if eku.server_auth && eku.client_auth && !eku.any && eku.other.is_empty())
            }),
        ),
        (
            "X509-SVID §4.1 (basic constraints)",
            has(true, &|e| {
                matches!(e, ParsedExtension::BasicConstraints(bc)
                    if !bc.ca && bc.path_len_constraint.is_none())
            }),
        ),
        (
            "X509-SVID §2 (names)",
            has(true, &|e| {
                matches!(e, ParsedExtension::SubjectAlternativeName(san)
                if names_are(&san.general_names, leaf))
            }),
        ),
    ]
    .into_iter()
}

fn names_are(found: &[GeneralName<'_>], leaf: &Leaf<'_>) -> bool {
    let id = leaf.spiffe_id.to_string();
    let Some((GeneralName::URI(uri), dns)) = found.split_first() else { return false };
    *uri == id
        && dns.len() == leaf.dns_names.iter().count()
        && dns.iter().zip(leaf.dns_names.iter()).all(|(found, name)| *found == GeneralName::DNSName(name))
}
