//! Secrets as proto3 JSON: what an Envoy that polls by REST is answered.

use bytes::Bytes;
use data_encoding::BASE64;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, GenericSecret, Secret, SpiffeCertValidatorConfig, TlsCertificate,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Any;
use http::{Response, StatusCode};
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::{Code, Status};
use zeroize::{Zeroize, Zeroizing};

use super::fetch::{Question, Whole, json as respond};
use super::secret::{Resource, TYPE_URL};

/// The members of a `DiscoveryRequest` that are read, in either spelling of proto3 JSON.
#[derive(Deserialize)]
struct Request {
    #[serde(default, alias = "resourceNames")]
    resource_names: Vec<String>,
    #[serde(default, alias = "versionInfo")]
    version_info: String,
    #[serde(default, alias = "typeUrl")]
    type_url: String,
}

pub(super) fn question(body: &[u8]) -> Result<Question, Status> {
    // What is wrong with it is not repeated: serde's message would quote the body.
    let request: Request = serde_json::from_slice(body)
        .map_err(|_| Status::invalid_argument("a DiscoveryRequest in JSON is expected"))?;
    let Request { resource_names, version_info, type_url } = request;
    Ok(Question { names: resource_names, version: version_info, type_url })
}

/// The client has it all: Envoy's poll ends there.
pub(super) fn unchanged() -> Response<Whole> {
    respond(StatusCode::NOT_MODIFIED, None)
}

pub(super) fn refuse(status: &Status) -> Response<Whole> {
    let code = match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = json!({ "code": i32::from(status.code()), "message": status.message() });
    respond(code, Some(text.to_string().into()))
}

/// A `DiscoveryResponse`.
pub(super) fn response(version: &str, found: &[Arc<Resource>]) -> Result<Response<Whole>, Status> {
    // Grows once, so that no copy of a key is left behind: base64 takes four bytes for three, twice over.
    let room: usize = found.iter().map(|one| one.expose_any().len() * 2 + 512).sum();
    let mut text = Zeroizing::new(String::with_capacity(room + 512));
    text.push_str(&format!(
        "{{\"version_info\":{},\"type_url\":{},\"resources\":[",
        quoted(version),
        quoted(TYPE_URL)
    ));
    for (n, resource) in found.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        write_secret(resource, &mut text)?;
    }
    text.push_str("]}");
    let bytes = Zeroizing::new(std::mem::take(&mut *text).into_bytes());
    Ok(respond(StatusCode::OK, Some(Bytes::from_owner(bytes))))
}

fn write_secret(resource: &Resource, text: &mut String) -> Result<(), Status> {
    let fault = || Status::internal("a secret cannot be written as JSON: this is a fault of the server");
    let any = Any::decode(&**resource.expose_any()).map_err(|_| fault())?;
    let secret = Secret::decode(Zeroizing::new(any.value).as_slice()).map_err(|_| fault())?;
    text.push_str(&format!("{{\"@type\":{},\"name\":{},", quoted(TYPE_URL), quoted(resource.name())));
    match secret.r#type {
        Some(Type::TlsCertificate(certificate)) => write_certificate(certificate, text),
        Some(Type::ValidationContext(context)) => {
            let context = validation(&context).ok_or_else(fault)?;
            text.push_str(&format!("\"validation_context\":{context}"));
        }
        Some(Type::GenericSecret(generic)) => write_generic(generic, text),
        _ => return Err(fault()),
    }
    text.push('}');
    Ok(())
}

/// Straight into the buffer that is wiped, and the decoded key is wiped here.
fn write_certificate(certificate: TlsCertificate, text: &mut String) {
    text.push_str("\"tls_certificate\":{\"certificate_chain\":{\"inline_bytes\":\"");
    BASE64.encode_append(inline(certificate.certificate_chain.as_ref()), text);
    text.push_str("\"},\"private_key\":{\"inline_bytes\":\"");
    BASE64.encode_append(inline(certificate.private_key.as_ref()), text);
    text.push_str("\"}}");
    wipe(certificate.private_key);
}

/// As [`write_certificate`].
fn write_generic(generic: GenericSecret, text: &mut String) {
    text.push_str("\"generic_secret\":{\"secret\":{\"inline_bytes\":\"");
    BASE64.encode_append(inline(generic.secret.as_ref()), text);
    text.push_str("\"}}");
    wipe(generic.secret);
}

fn wipe(secret: Option<DataSource>) {
    if let Some(DataSource { specifier: Some(Specifier::InlineBytes(mut bytes)), .. }) = secret {
        bytes.zeroize();
    }
}

fn validation(context: &CertificateValidationContext) -> Option<Value> {
    let mut object = serde_json::Map::new();
    if context.trusted_ca.is_some() {
        object.insert("trusted_ca".to_owned(), source(context.trusted_ca.as_ref()));
    }
    let matchers = context.match_typed_subject_alt_names.iter().map(|one| {
        match one.matcher.as_ref()?.match_pattern.as_ref()? {
            MatchPattern::Exact(id) => Some(json!({ "san_type": "URI", "matcher": { "exact": id } })),
            _ => None,
        }
    });
    let matchers: Vec<Value> = matchers.collect::<Option<_>>()?;
    if !matchers.is_empty() {
        object.insert("match_typed_subject_alt_names".to_owned(), matchers.into());
    }
    if context.suppress_client_ca_list {
        object.insert("suppress_client_ca_list".to_owned(), true.into());
    }
    if let Some(validator) = &context.custom_validator_config {
        let any = validator.typed_config.as_ref()?;
        let config = SpiffeCertValidatorConfig::decode(&*any.value).ok()?;
        let domains: Vec<Value> = config
            .trust_domains
            .iter()
            .map(
                |domain| json!({ "name": domain.name, "trust_bundle": source(domain.trust_bundle.as_ref()) }),
            )
            .collect();
        let config = json!({ "@type": any.type_url, "trust_domains": domains });
        let validator = json!({ "name": validator.name, "typed_config": config });
        object.insert("custom_validator_config".to_owned(), validator);
    }
    Some(Value::Object(object))
}

fn source(data: Option<&DataSource>) -> Value {
    json!({ "inline_bytes": BASE64.encode(inline(data)) })
}

fn inline(data: Option<&DataSource>) -> &[u8] {
    match data.and_then(|data| data.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => bytes,
        _ => &[],
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
