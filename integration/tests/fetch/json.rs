//! Reads what is answered by REST back into messages, as strictly as Envoy does: an unknown member is an error.

use data_encoding::BASE64;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{DataSource, TypedExtensionConfig};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, SubjectAltNameMatcher, TlsCertificate,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use serde::Deserialize;
use serde_json::Value;

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const VALIDATOR: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    version_info: String,
    type_url: String,
    resources: Vec<Resource>,
}

/// The members of a message beside those of its `Any`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    #[serde(rename = "@type")]
    kind: String,
    name: String,
    tls_certificate: Option<Certificate>,
    validation_context: Option<Context>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    certificate_chain: Source,
    private_key: Source,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    trusted_ca: Option<Source>,
    #[serde(default)]
    match_typed_subject_alt_names: Vec<Matcher>,
    #[serde(default)]
    suppress_client_ca_list: bool,
    custom_validator_config: Option<Extension>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    inline_bytes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matcher {
    san_type: String,
    matcher: Exact,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exact {
    exact: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extension {
    name: String,
    typed_config: Validator,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Validator {
    #[serde(rename = "@type")]
    kind: String,
    trust_domains: Vec<Domain>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Domain {
    name: String,
    trust_bundle: Source,
}

/// The version and the secrets of a `DiscoveryResponse`.
pub(super) fn read(text: Value) -> (String, Vec<Secret>) {
    let response: Response = serde_json::from_value(text).unwrap();
    assert_eq!(response.type_url, SECRET);
    (response.version_info, response.resources.into_iter().map(secret).collect())
}

fn secret(resource: Resource) -> Secret {
    assert_eq!(resource.kind, SECRET);
    let of = match (resource.tls_certificate, resource.validation_context) {
        (Some(tls), None) => Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(source(&tls.certificate_chain)),
            private_key: Some(source(&tls.private_key)),
            ..TlsCertificate::default()
        }),
        (None, Some(context)) => Type::ValidationContext(validation(context)),
        _ => panic!("{}: one of the two", resource.name),
    };
    Secret { name: resource.name, r#type: Some(of) }
}

fn validation(context: Context) -> CertificateValidationContext {
    let matcher = |one: Matcher| SubjectAltNameMatcher {
        san_type: SanType::from_str_name(&one.san_type).unwrap().into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(one.matcher.exact)),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    };
    CertificateValidationContext {
        trusted_ca: context.trusted_ca.as_ref().map(source),
        match_typed_subject_alt_names: context
            .match_typed_subject_alt_names
            .into_iter()
            .map(matcher)
            .collect(),
        suppress_client_ca_list: context.suppress_client_ca_list,
        custom_validator_config: context.custom_validator_config.map(extension),
        ..CertificateValidationContext::default()
    }
}

fn extension(extension: Extension) -> TypedExtensionConfig {
    assert_eq!(extension.typed_config.kind, VALIDATOR);
    let domain = |one: Domain| TrustDomain {
        name: one.name,
        trust_bundle: Some(source(&one.trust_bundle)),
        ..TrustDomain::default()
    };
    let trust_domains = extension.typed_config.trust_domains.into_iter().map(domain).collect();
    let config = SpiffeCertValidatorConfig { trust_domains, ..SpiffeCertValidatorConfig::default() };
    let any = Any { type_url: VALIDATOR.into(), value: config.encode_to_vec() };
    TypedExtensionConfig { name: extension.name, typed_config: Some(any) }
}

fn source(source: &Source) -> DataSource {
    let bytes = BASE64.decode(source.inline_bytes.as_bytes()).unwrap();
    DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..DataSource::default() }
}
