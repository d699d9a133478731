//! TLS certificates. envoy-sds.md §1.1.

use envoy_types::pb::envoy::config::core::v3::WatchedDirectory;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    PrivateKeyProvider, TlsCertificate, TlsParameters,
};
use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_ML_DSA_44, PKCS_ML_DSA_65, PKCS_RSA_SHA256, SanType,
    date_time_ymd,
};

use crate::contexts;
use crate::pki::{Pair, Pki, WEB, der, leaf_params, pem, sec1, unix};
use crate::rows::{inline, source};

/// As it is sent.
pub(crate) fn tls(pair: &Pair) -> TlsCertificate {
    TlsCertificate {
        certificate_chain: inline(unix(&pair.chain)),
        private_key: inline(unix(&pair.key)),
        ..TlsCertificate::default()
    }
}

pub(crate) fn rows(pki: &Pki) -> Vec<(&'static str, Option<Type>)> {
    let good = pki.good();
    let with = |change: &dyn Fn(&mut TlsCertificate)| {
        let mut secret = tls(&good);
        change(&mut secret);
        secret
    };
    let chained =
        |parts: &[&str]| TlsCertificate { certificate_chain: inline(unix(&parts.concat())), ..tls(&good) };
    let intermediate = pki.intermediate.pem();
    let below = pki.leaf(&pki.intermediate, &leaf_params(WEB), &KeyPair::generate().unwrap());
    let below_with =
        |parts: &[&str]| TlsCertificate { certificate_chain: inline(unix(&parts.concat())), ..tls(&below) };
    let encrypted = pki.by_openssl(&[
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-aes256",
        "-pass",
        "pass:secret",
    ]);
    let rows = [kinds(pki), odd(pki)].concat().into_iter();
    let secrets = [
        ("leaf and its intermediate", below_with(&[&below.chain, &intermediate])),
        ("intermediate missing", below_with(&[&below.chain])),
        ("intermediate first", below_with(&[&intermediate, &below.chain])),
        ("an intermediate that is not the issuer's", chained(&[&good.chain, &intermediate])),
        ("chain with the root", chained(&[&good.chain, &pki.root.pem()])),
        (
            "key of another certificate",
            TlsCertificate { private_key: inline(unix(&pki.good().key)), ..tls(&good) },
        ),
        ("chain: no PEM", chained(&["garbage\n"])),
        ("chain: DER", TlsCertificate { certificate_chain: inline(der(&unix(&good.chain))), ..tls(&good) }),
        ("chain: a broken block at its end", chained(&[&good.chain, &pem("CERTIFICATE", b"garbage")])),
        ("chain: text between blocks", chained(&["a comment\n", &good.chain])),
        ("chain: empty", TlsCertificate { certificate_chain: inline(""), ..tls(&good) }),
        ("chain: absent", TlsCertificate { certificate_chain: None, ..tls(&good) }),
        (
            "chain: in a file of Envoy's",
            with(&|s| s.certificate_chain = source(Specifier::Filename("/nonexistent".into()))),
        ),
        (
            "chain: in a variable of Envoy's",
            with(&|s| {
                s.certificate_chain = source(Specifier::EnvironmentVariable("COUNTERSIGN_UNSET".into()))
            }),
        ),
        (
            "chain: as a string",
            with(&|s| s.certificate_chain = source(Specifier::InlineString(unix(&good.chain)))),
        ),
        ("key: no PEM", with(&|s| s.private_key = inline("garbage\n"))),
        ("key: DER", with(&|s| s.private_key = inline(der(&unix(&good.key))))),
        ("key: EC, in the form of SEC 1", with(&|s| s.private_key = inline(sec1(&good.key)))),
        ("key: empty", with(&|s| s.private_key = inline(""))),
        ("key: absent", with(&|s| s.private_key = None)),
        ("a password without need", with(&|s| s.password = inline("secret"))),
        ("PKCS#12 beside it", with(&|s| s.pkcs12 = inline("garbage"))),
        ("an OCSP staple that is none", with(&|s| s.ocsp_staple = inline("garbage"))),
        (
            "a certificate timestamp that is none",
            with(&|s| s.signed_certificate_timestamp = vec![inline("sct").unwrap()]),
        ),
        (
            "a private key provider",
            with(&|s| {
                s.private_key_provider =
                    Some(PrivateKeyProvider { provider_name: "nope".into(), ..Default::default() });
            }),
        ),
        (
            "a watched directory",
            with(&|s| {
                s.watched_directory = Some(WatchedDirectory { path: "/tmp".into(), ..Default::default() })
            }),
        ),
        (
            "a private key provider without a name, which breaks a rule of the message",
            with(&|s| s.private_key_provider = Some(PrivateKeyProvider::default())),
        ),
        (
            "a watched directory without a path, which breaks a rule of the message",
            with(&|s| s.watched_directory = Some(WatchedDirectory::default())),
        ),
        (
            "TLS parameters of its own: TLS 1.2 at most",
            with(&|s| {
                s.tls_params = Some(TlsParameters {
                    tls_maximum_protocol_version: TlsProtocol::TlSv12.into(),
                    ..Default::default()
                });
            }),
        ),
        (
            "TLS parameters of its own: a curve that is none",
            with(&|s| {
                s.tls_params = Some(TlsParameters { ecdh_curves: vec!["nope".into()], ..Default::default() });
            }),
        ),
        (
            "key: encrypted, with its password",
            TlsCertificate { password: inline("secret"), ..tls(&encrypted) },
        ),
        ("key: encrypted, without its password", tls(&encrypted)),
        ("nothing in it", TlsCertificate::default()),
    ];
    let secrets = secrets.into_iter().map(|(what, secret)| (what, Some(Type::TlsCertificate(secret))));
    let wrong =
        contexts::wrong_types(pki).into_iter().filter(|(what, _)| !what.contains("a TLS certificate"));
    let context = ("wrong type: a validation context", Some(Type::ValidationContext(contexts::good(pki))));
    rows.chain(secrets).chain(wrong).chain([context]).collect()
}

fn kinds(pki: &Pki) -> Vec<(&'static str, Option<Type>)> {
    let rsa = |bits| pki.by_openssl(&["-algorithm", "RSA", "-pkeyopt", bits]);
    let list = [
        ("EC P-256", pki.good()),
        ("EC P-384", pki.of_kind(&PKCS_ECDSA_P384_SHA384)),
        ("EC P-521", pki.of_kind(&PKCS_ECDSA_P521_SHA512)),
        ("RSA-2048", pki.of_kind(&PKCS_RSA_SHA256)),
        ("RSA-3072", rsa("rsa_keygen_bits:3072")),
        ("RSA-4096", rsa("rsa_keygen_bits:4096")),
        ("Ed25519", pki.by_openssl(&["-algorithm", "ED25519"])),
        ("Ed25519, the key with its public half (PKCS#8 version 2)", pki.of_kind(&PKCS_ED25519)),
        ("ML-DSA-44", pki.of_kind(&PKCS_ML_DSA_44)),
        ("ML-DSA-65", pki.of_kind(&PKCS_ML_DSA_65)),
        ("EC secp256k1", pki.by_openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"])),
        ("RSA-1024", rsa("rsa_keygen_bits:1024")),
        (
            "RSA-2048 with the exponent 3",
            pki.by_openssl(&[
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-pkeyopt",
                "rsa_keygen_pubexp:3",
            ]),
        ),
    ];
    list.into_iter().map(|(what, pair)| (what, Some(Type::TlsCertificate(tls(&pair))))).collect()
}

/// Leaves that are wrong in one thing.
fn odd(pki: &Pki) -> Vec<(&'static str, Option<Type>)> {
    let rogue = pki.leaf(&pki.rogue, &leaf_params(WEB), &KeyPair::generate().unwrap());
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let list = [
        ("signed by another root", rogue),
        ("expired", pki.odd(|p| p.not_after = date_time_ymd(2026, 2, 1))),
        ("not valid yet", pki.odd(|p| p.not_before = date_time_ymd(2038, 2, 1))),
        ("leaf is a CA", pki.odd(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        (
            "EKU for clients alone",
            pki.odd(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ),
        ("no EKU", pki.odd(|p| p.extended_key_usages.clear())),
        ("no KeyUsage", pki.odd(|p| p.key_usages.clear())),
        (
            "KeyUsage without digitalSignature",
            pki.odd(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        ),
        (
            "a DNS name alone",
            pki.odd(|p| p.subject_alt_names = vec![SanType::DnsName("a.b".try_into().unwrap())]),
        ),
        ("two URIs", pki.odd(|p| p.subject_alt_names.push(uri("spiffe://example.org/other")))),
        (
            "a URI that is no SPIFFE ID",
            pki.odd(|p| p.subject_alt_names = vec![uri("https://example.org/web")]),
        ),
        ("a SPIFFE ID without a path", pki.odd(|p| p.subject_alt_names = vec![uri("spiffe://example.org")])),
        ("no name at all", pki.odd(|p| p.subject_alt_names.clear())),
    ];
    list.into_iter().map(|(what, pair)| (what, Some(Type::TlsCertificate(tls(&pair))))).collect()
}
