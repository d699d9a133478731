//! Validation contexts of the SPIFFE validator. envoy-sds.md §1.3.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SpiffeCertValidatorConfig,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use rcgen::{CertifiedIssuer, KeyPair, date_time_ymd};

use crate::contexts;
use crate::pki::{Crl, Pki, ca_params, crl, unix};
use crate::rows::inline;

const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const CONFIG: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

fn domain(name: &str, bundle: &str) -> TrustDomain {
    TrustDomain { name: name.to_owned(), trust_bundle: inline(unix(bundle)), ..TrustDomain::default() }
}

fn validator(name: &str, type_url: &str, config: &SpiffeCertValidatorConfig) -> CertificateValidationContext {
    CertificateValidationContext {
        custom_validator_config: Some(TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(Any { type_url: type_url.to_owned(), value: config.encode_to_vec() }),
        }),
        ..CertificateValidationContext::default()
    }
}

fn of(trust_domains: Vec<TrustDomain>) -> CertificateValidationContext {
    validator(VALIDATOR, CONFIG, &SpiffeCertValidatorConfig { trust_domains, trust_bundles: None })
}

pub(crate) fn rows(pki: &Pki) -> Vec<(&'static str, Option<Type>)> {
    let (root, partner) = (pki.root.pem(), pki.partner.pem());
    let (own, other) = (domain("example.org", &root), domain("partner.test", &partner));
    let both =
        || SpiffeCertValidatorConfig { trust_domains: vec![own.clone(), other.clone()], trust_bundles: None };
    let named = |name| of(vec![domain(name, &root)]);
    let mut expired = ca_params("expired");
    expired.not_after = date_time_ymd(2026, 2, 1);
    let expired = CertifiedIssuer::self_signed(expired, KeyPair::generate().unwrap()).unwrap().pem();
    let x5c = data_encoding::BASE64.encode(pki.root.der());
    let json = |key_use: &str| {
        let key = format!(r#"{{"kty":"EC","use":"{key_use}","x5c":["{x5c}"]}}"#);
        let text = format!(
            r#"{{"trust_domains":{{"example.org":{{"keys":[{key}],"sequence_number":1,"spiffe_refresh_hint":1}}}}}}"#
        );
        let config = SpiffeCertValidatorConfig { trust_bundles: inline(text), trust_domains: Vec::new() };
        validator(VALIDATOR, CONFIG, &config)
    };
    let listed = |is| [root.clone(), crl(&pki.root, is)].concat();
    let rows = vec![
        ("two domains", of(vec![own.clone(), other.clone()])),
        ("no domain", of(Vec::new())),
        ("a domain twice", of(vec![own.clone(), own.clone()])),
        ("a domain named as a SPIFFE ID", named("spiffe://example.org")),
        ("a domain in upper case", named("EXAMPLE.ORG")),
        ("a domain without a name", named("")),
        (
            "a domain without a bundle",
            of(vec![TrustDomain { trust_bundle: None, ..own.clone() }, other.clone()]),
        ),
        ("a bundle that is no PEM", of(vec![domain("example.org", "garbage\n"), other.clone()])),
        ("an expired root alone in one bundle", of(vec![domain("example.org", &expired), other.clone()])),
        ("expired roots alone in every bundle", of(vec![domain("example.org", &expired)])),
        ("a CRL in a bundle", of(vec![domain("example.org", &listed(Crl::Current)), other.clone()])),
        (
            "a CRL in a bundle that has run out",
            of(vec![domain("example.org", &listed(Crl::Expired)), other.clone()]),
        ),
        (
            "only for a domain of the workload's",
            of(vec![TrustDomain { workload_trust_domain: "a.test".into(), ..own.clone() }]),
        ),
        ("bundles as JSON", json("x509-svid")),
        ("bundles as JSON, with a JWT key", json("jwt-svid")),
        (
            "settings of another type",
            validator(VALIDATOR, "type.googleapis.com/envoy.config.core.v3.Node", &both()),
        ),
        ("a validator that there is not", validator("nope", CONFIG, &both())),
        ("the default validator", contexts::good(pki)),
        ("nothing in it", CertificateValidationContext::default()),
    ];
    rows.into_iter().map(|(what, context)| (what, Some(Type::ValidationContext(context)))).collect()
}
