//! Validation contexts of the default validator. envoy-sds.md §1.2, §0.1, §9.

use envoy_configs::NOBODY;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::SystemRootCerts;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateProviderPluginInstance, CertificateValidationContext, GenericSecret, SubjectAltNameMatcher,
    TlsSessionTicketKeys,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
use rcgen::{CertifiedIssuer, KeyPair, date_time_ymd};

use crate::leafs::tls;
use crate::pki::{Crl, Pki, WEB, ca, ca_params, crl, der, pem, unix};
use crate::rows::inline;

type Context = CertificateValidationContext;

/// The root of most clients.
pub(crate) fn good(pki: &Pki) -> Context {
    trusting(&[&pki.root.pem()])
}

fn trusting(parts: &[&str]) -> Context {
    Context { trusted_ca: inline(unix(&parts.concat())), ..Context::default() }
}

pub(crate) fn matcher(san_type: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    let matcher = Some(StringMatcher { ignore_case: false, match_pattern: Some(pattern) });
    SubjectAltNameMatcher { san_type: san_type.into(), matcher, ..Default::default() }
}

pub(crate) fn exact(id: &str) -> SubjectAltNameMatcher {
    matcher(SanType::Uri, MatchPattern::Exact(id.to_owned()))
}

fn regex(text: &str) -> SubjectAltNameMatcher {
    matcher(
        SanType::Uri,
        MatchPattern::SafeRegex(RegexMatcher { regex: text.to_owned(), ..RegexMatcher::default() }),
    )
}

/// Secrets that are no validation context.
pub(crate) fn wrong_types(pki: &Pki) -> Vec<(&'static str, Option<Type>)> {
    let tickets = TlsSessionTicketKeys { keys: vec![inline([7; 80]).unwrap()] };
    let generic = GenericSecret { secret: inline("secret"), ..GenericSecret::default() };
    vec![
        ("wrong type: a TLS certificate", Some(Type::TlsCertificate(tls(&pki.good())))),
        ("wrong type: a generic secret", Some(Type::GenericSecret(generic))),
        ("wrong type: session ticket keys", Some(Type::SessionTicketKeys(tickets))),
        ("no type at all", None),
    ]
}

pub(crate) fn roots(pki: &Pki) -> Vec<(&'static str, Option<Type>)> {
    let (root, second) = (pki.root.pem(), pki.second.pem());
    let with = |change: &dyn Fn(&mut Context)| {
        let mut context = good(pki);
        change(&mut context);
        context
    };
    let mut expired = ca_params("expired");
    expired.not_after = date_time_ymd(2026, 2, 1);
    let expired = CertifiedIssuer::self_signed(expired, KeyPair::generate().unwrap()).unwrap().pem();
    let many = |count: usize, name: &str| {
        let others = (0..count).map(|n| ca(&format!("{name} {n}")).pem());
        trusting(&[&root, &others.collect::<String>()])
    };
    let long = "a name as long as one may be, to have more of them than a handshake";
    let (current, ended) = (crl(&pki.root, Crl::Current), crl(&pki.root, Crl::Expired));
    // The issuer's name, signed by somebody else.
    let forged = crl(&ca("root"), Crl::Current);
    let listed = |list: &str| {
        let list = unix(list);
        with(&move |c| c.crl = inline(list.clone()))
    };
    let rows = vec![
        ("one root", good(pki)),
        ("two roots", trusting(&[&root, &second])),
        ("a root twice", trusting(&[&root, &root])),
        ("201 roots", many(200, "more")),
        ("nothing in it", Context::default()),
        (
            "the system's roots alone",
            Context { system_root_certs: Some(SystemRootCerts {}), ..Context::default() },
        ),
        (
            "a certificate provider alone",
            Context {
                ca_certificate_provider_instance: Some(CertificateProviderPluginInstance {
                    instance_name: "default".into(),
                    ..Default::default()
                }),
                ..Context::default()
            },
        ),
        ("an empty CRL alone", Context { crl: inline(""), ..Context::default() }),
        ("a CRL alone", Context { crl: inline(unix(&current)), ..Context::default() }),
        (
            "a matcher alone",
            Context { match_typed_subject_alt_names: vec![exact(WEB)], ..Context::default() },
        ),
        (
            "expired certificates allowed, no root",
            Context { allow_expired_certificate: true, ..Context::default() },
        ),
        ("roots: empty", trusting(&[""])),
        ("roots: no PEM", trusting(&["garbage\n"])),
        ("roots: DER", Context { trusted_ca: inline(der(&unix(&root))), ..Context::default() }),
        ("roots: a broken block at their end", trusting(&[&root, &pem("CERTIFICATE", b"garbage")])),
        ("roots: text between", trusting(&["a comment\n", &root])),
        ("roots: a leaf", trusting(&[&pki.good().chain])),
        ("roots: an intermediate alone", trusting(&[&pki.intermediate.pem()])),
        ("an expired root alone", trusting(&[&expired])),
        ("an expired root beside a good one", trusting(&[&root, &expired])),
        ("more names of roots than a handshake carries", many(800, long)),
        ("expired certificates allowed", with(&|c| c.allow_expired_certificate = true)),
        ("untrusted certificates accepted", with(&|c| c.trust_chain_verification = 1)),
        ("a matcher beside the root", with(&|c| c.match_typed_subject_alt_names = vec![exact(WEB)])),
        ("a pin of a hash", with(&|c| c.verify_certificate_hash = vec!["00".repeat(32)])),
        ("a pin that is none", with(&|c| c.verify_certificate_spki = vec!["garbage".into()])),
        ("depth 0", with(&|c| c.max_verify_depth = Some(UInt32Value { value: 0 }))),
        ("depth 101", with(&|c| c.max_verify_depth = Some(UInt32Value { value: 101 }))),
        (
            "certificate timestamps asked for",
            with(&|c| c.require_signed_certificate_timestamp = Some(BoolValue { value: true })),
        ),
        ("the list of roots suppressed", with(&|c| c.suppress_client_ca_list = true)),
        ("a CRL of the root", listed(&current)),
        ("a CRL that is none", listed("garbage\n")),
        ("a CRL that has run out", listed(&ended)),
        ("a CRL in the root's name, not signed by it", listed(&forged)),
        ("CRLs of one root of two", Context { crl: inline(unix(&current)), ..trusting(&[&root, &second]) }),
        (
            "CRLs of both roots",
            Context {
                crl: inline(unix(&[current.clone(), crl(&pki.second, Crl::Current)].concat())),
                ..trusting(&[&root, &second])
            },
        ),
        ("a CRL among the roots", trusting(&[&root, &current])),
        ("a CRL among the roots that has run out", trusting(&[&root, &ended])),
        ("a CRL for leaves alone", Context { only_verify_leaf_cert_crl: true, ..listed(&current) }),
    ];
    let rows = rows.into_iter().map(|(what, context)| (what, Some(Type::ValidationContext(context))));
    rows.chain(wrong_types(pki)).collect()
}

pub(crate) fn peers(pki: &Pki) -> Vec<(&'static str, Option<Type>)> {
    let by = |matchers: Vec<SubjectAltNameMatcher>| Context {
        match_typed_subject_alt_names: matchers,
        ..good(pki)
    };
    let mut loose = exact(&WEB.to_uppercase());
    loose.matcher.as_mut().unwrap().ignore_case = true;
    let prefix = MatchPattern::Prefix("spiffe://example.org/".into());
    let rows = vec![
        ("a root and one peer", by(vec![exact(WEB)])),
        ("a root and nobody", by(vec![exact(NOBODY)])),
        ("a root and no matcher", good(pki)),
        ("a matcher and no root", Context { trusted_ca: None, ..by(vec![exact(WEB)]) }),
        ("nothing in it", Context::default()),
        ("matcher: a prefix", by(vec![matcher(SanType::Uri, prefix)])),
        ("matcher: an expression", by(vec![regex(".*")])),
        ("matcher: an expression that is none", by(vec![regex("(")])),
        ("matcher: whatever the case", by(vec![loose])),
        ("matcher: of DNS names", by(vec![matcher(SanType::Dns, MatchPattern::Exact("a.b".into()))])),
        ("matcher: of no type", by(vec![matcher(SanType::Unspecified, MatchPattern::Exact(WEB.into()))])),
        ("untrusted certificates accepted", Context { trust_chain_verification: 1, ..by(vec![exact(WEB)]) }),
    ];
    let rows = rows.into_iter().map(|(what, context)| (what, Some(Type::ValidationContext(context))));
    rows.chain(wrong_types(pki)).collect()
}
