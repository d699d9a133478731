//! What a secret with roots says, in words that can be compared: who is let in, and by which validator.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    Secret, SpiffeCertValidatorConfig, SubjectAltNameMatcher,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub(super) type Roots = Vec<CertificateDer<'static>>;

#[derive(Debug, PartialEq)]
pub(super) struct Trusted {
    by: Validator,
    /// Exact URIs; with none, whoever the roots vouch for.
    only: Vec<String>,
    suppresses_the_list: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Validator {
    /// Envoy's own, with these roots.
    Default(Roots),
    /// The SPIFFE validator: each domain under its own roots.
    Spiffe(BTreeMap<String, Roots>),
}

pub(super) fn roots(pem: &[u8]) -> Roots {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap()
}

fn inline(source: Option<DataSource>) -> Roots {
    let Some(Specifier::InlineBytes(bytes)) = source.unwrap().specifier else { panic!("a form") };
    roots(&bytes)
}

impl Trusted {
    pub(super) fn anybody(by: Validator) -> Self {
        Self::only(by, &[])
    }

    pub(super) fn only(by: Validator, ids: &[&str]) -> Self {
        Self { by, only: ids.iter().map(ToString::to_string).collect(), suppresses_the_list: false }
    }

    pub(super) fn without_a_list(self) -> Self {
        Self { suppresses_the_list: true, ..self }
    }

    pub(super) fn of(secret: Secret) -> Self {
        let Some(Type::ValidationContext(context)) = secret.r#type else { panic!("{}", secret.name) };
        let by = match context.custom_validator_config {
            None => Validator::Default(inline(context.trusted_ca)),
            Some(validator) => {
                assert_eq!(
                    (validator.name.as_str(), context.trusted_ca),
                    ("envoy.tls.cert_validator.spiffe", None)
                );
                let config = validator.typed_config.unwrap().value;
                let domains = SpiffeCertValidatorConfig::decode(&*config).unwrap().trust_domains.into_iter();
                Validator::Spiffe(domains.map(|one| (one.name, inline(one.trust_bundle))).collect())
            }
        };
        let exact = |one: SubjectAltNameMatcher| match one.matcher.unwrap().match_pattern {
            Some(MatchPattern::Exact(id)) if one.san_type == i32::from(SanType::Uri) => id,
            other => panic!("{other:?}"),
        };
        let only = context.match_typed_subject_alt_names.into_iter().map(exact).collect();
        Self { by, only, suppresses_the_list: context.suppress_client_ca_list }
    }
}
