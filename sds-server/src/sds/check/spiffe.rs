//! The SPIFFE validator: one bundle a trust domain.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::SpiffeCertValidatorConfig;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain as Domain;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use spiffe_bridge::identity::TrustDomain;

use super::super::trust::{SPIFFE_CONFIG, SPIFFE_VALIDATOR};
use super::roots::{self, Roots};
use super::{CheckError, absent};

/// While one of the domains has a valid root. One whose roots have all expired shuts out nobody else's workloads.
pub(super) fn check(custom: &TypedExtensionConfig) -> Result<Roots, CheckError> {
    // Anything else is accepted, and then nobody gets in (envoy-sds.md §1.3).
    let TypedExtensionConfig { name, typed_config: Some(Any { type_url, value }) } = custom else {
        return Err(CheckError::Validator);
    };
    if name != SPIFFE_VALIDATOR || type_url != SPIFFE_CONFIG {
        return Err(CheckError::Validator);
    }
    let config = SpiffeCertValidatorConfig::decode(value.as_slice()).map_err(|_| CheckError::Validator)?;
    let SpiffeCertValidatorConfig { trust_domains, trust_bundles } = config;
    // One JSON document: it cannot carry CRLs, and would win over the bundles beside it.
    absent(trust_bundles.is_none())?;
    let (mut domains, mut all) = (BTreeSet::new(), None);
    for Domain { name, trust_bundle, workload_trust_domain } in &trust_domains {
        // Would need a filter state that our bootstraps do not set: nobody would match.
        absent(workload_trust_domain.is_empty())?;
        let is_canonical = TrustDomain::new(name).is_ok_and(|parsed| parsed.as_str() == name);
        if !is_canonical || !domains.insert(name) {
            return Err(CheckError::Domain);
        }
        let own = roots::read(trust_bundle.as_ref().ok_or(CheckError::NoRoots)?, None)?;
        all = Some(match all {
            None => own,
            Some(all) => roots::either(all, own),
        });
    }
    all.ok_or(CheckError::NoRoots)
}
