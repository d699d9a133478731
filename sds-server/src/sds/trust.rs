//! Secrets that say who may come: roots and matchers in one, so that neither is ever applied without the other.
//!
//! They go with the *nobody* floor of the shipped bootstraps. Under a floor of a whole trust domain their matchers
//! narrow nothing: Envoy joins both lists with "or" (envoy-sds.md §9).

use std::sync::Arc;

use envoy_configs::NOBODY;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SpiffeCertValidatorConfig, SubjectAltNameMatcher,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use spiffe_bridge::identity::{Admitted, Trust, TrustBundle};

use super::check::roots::are_too_many_to_list;
use super::check::{Against, CheckError};
use super::pem;
use super::secret::{Derived, Resource, inline};

pub(super) const SPIFFE_VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
pub(super) const SPIFFE_CONFIG: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// The secret of `name`, if it may be sent.
pub(super) fn secret(trust: &Trust, name: &str, against: Against<'_>) -> Result<Arc<Resource>, CheckError> {
    Derived::of(&trust.memo, name, against, trust.revision, || Type::ValidationContext(context(trust)))
}

fn context(trust: &Trust) -> CertificateValidationContext {
    let match_typed_subject_alt_names = match &trust.admitted {
        Admitted::Everybody => Vec::new(),
        // Without a matcher a looser floor would let everybody in.
        Admitted::Only(ids) if ids.is_empty() => vec![exact(NOBODY.to_owned())],
        Admitted::Only(ids) => ids.iter().map(|id| exact(id.to_string())).collect(),
    };
    let base = CertificateValidationContext {
        match_typed_subject_alt_names,
        suppress_client_ca_list: are_too_many_to_list(trust.bundles.iter().flat_map(|bundle| &bundle.roots)),
        ..Default::default()
    };
    // Of a domain without roots nobody comes; an empty bundle in its place would be refused, or fail open.
    let bundles: Vec<_> = trust.bundles.iter().filter(|bundle| !bundle.roots.is_empty()).cloned().collect();
    match (bundles.as_slice(), &trust.admitted) {
        // The stricter of the two validators, where one domain is enough for it.
        ([own], Admitted::Only(_)) => {
            CertificateValidationContext { trusted_ca: Some(inline(roots(own))), ..base }
        }
        (bundles, _) => {
            CertificateValidationContext { custom_validator_config: Some(by_domain(bundles)), ..base }
        }
    }
}

fn exact(id: String) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher { match_pattern: Some(MatchPattern::Exact(id)), ignore_case: false }),
        ..Default::default()
    }
}

/// The SPIFFE validator: the roots of a domain verify the SVIDs of that domain alone (invariant 9).
fn by_domain(bundles: &[Arc<TrustBundle>]) -> TypedExtensionConfig {
    let domain = |bundle: &Arc<TrustBundle>| spiffe_cert_validator_config::TrustDomain {
        name: bundle.trust_domain.to_string(),
        trust_bundle: Some(inline(roots(bundle))),
        ..Default::default()
    };
    let config = SpiffeCertValidatorConfig {
        trust_domains: bundles.iter().map(domain).collect(),
        ..Default::default()
    };
    TypedExtensionConfig {
        name: SPIFFE_VALIDATOR.to_owned(),
        typed_config: Some(Any { type_url: SPIFFE_CONFIG.to_owned(), value: config.encode_to_vec() }),
    }
}

/// Roots and CRLs in one, so that neither is ever applied without the other: both validators take CRLs among the roots
/// (envoy-sds.md §0.18).
pub(super) fn roots(bundle: &TrustBundle) -> String {
    let mut text = pem::write(bundle.roots.iter().map(AsRef::as_ref), "CERTIFICATE");
    text.push_str(&pem::write(bundle.crls.iter().map(AsRef::as_ref), "X509 CRL"));
    text
}
