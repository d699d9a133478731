//! The same trust in other bytes. A content that Envoy refused once is compared by its bytes and acknowledged unread
//! when it comes again (envoy-sds.md §0.2), so that what is to be applied after all must differ.
//!
//! Only roots can be dressed: a root that stands there twice is trusted once (measured, §1.2), and passes the checker as
//! everything else does. A new certificate comes with other bytes by itself.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use spiffe_bridge::clock::Timestamp;

use super::secret::{Resource, made_of};

const END: &str = "-----END CERTIFICATE-----\n";

/// `resource` with the same meaning in other bytes, the same for the same `times`; `None` if it is not of roots.
pub(super) fn dressed(resource: &Resource, times: u32, now: Timestamp) -> Option<Arc<Resource>> {
    let any = Any::decode(resource.expose_any().clone()).ok()?;
    let mut secret = Secret::decode(any.value.as_slice()).ok()?;
    let Some(Type::ValidationContext(context)) = &mut secret.r#type else { return None };
    repeat_in(context, times)?;
    made_of(secret, resource.name(), resource.version().revision, now).ok()
}

fn repeat_in(context: &mut CertificateValidationContext, times: u32) -> Option<()> {
    if let Some(roots) = &mut context.trusted_ca {
        return repeat(roots, times);
    }
    let by_domain = context.custom_validator_config.as_mut()?.typed_config.as_mut()?;
    let mut config = SpiffeCertValidatorConfig::decode(by_domain.value.as_slice()).ok()?;
    repeat(config.trust_domains.first_mut()?.trust_bundle.as_mut()?, times)?;
    by_domain.value = config.encode_to_vec();
    Some(())
}

/// The first root once more, `times` over.
fn repeat(roots: &mut DataSource, times: u32) -> Option<()> {
    let Some(Specifier::InlineBytes(pem)) = &mut roots.specifier else { return None };
    let text = std::str::from_utf8(pem).ok()?;
    let first = text.get(..text.find(END)? + END.len())?.repeat(usize::try_from(times).ok()?);
    pem.splice(0..0, first.into_bytes());
    Some(())
}
