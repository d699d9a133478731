//! Certificates of every kind, right ones and wrong ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration::stranger::Credential;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};
use rustls_pki_types::PrivateKeyDer;
use spiffe_bridge::identity::{Revision, TrustBundle};

pub(crate) const DOMAIN: &str = "example.org";
pub(crate) const WEB: &str = "spiffe://example.org/web";

pub(crate) type Ca = CertifiedIssuer<'static, KeyPair>;

/// The authorities, and the clients that try each row.
pub(crate) struct Pki {
    pub(crate) root: Ca,
    /// Signed by `root`.
    pub(crate) intermediate: Ca,
    /// A second root that is trusted where a row says so.
    pub(crate) second: Ca,
    /// Of another trust domain.
    pub(crate) partner: Ca,
    /// Trusted by nobody.
    pub(crate) rogue: Ca,
    pub(crate) bundle: TrustBundle,
}

/// A chain and a key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

pub(crate) fn ca(name: &str) -> Ca {
    CertifiedIssuer::self_signed(ca_params(name), KeyPair::generate().unwrap()).unwrap()
}

/// An SVID's.
pub(crate) fn leaf_params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2039, 1, 1);
    params
}

impl Pki {
    pub(crate) fn new() -> Self {
        let root = ca("root");
        let key = KeyPair::generate().unwrap();
        let intermediate = CertifiedIssuer::signed_by(ca_params("intermediate"), key, &root).unwrap();
        let bundle = TrustBundle::new(DOMAIN.try_into().unwrap(), vec![root.der().clone()], Revision(1));
        let (second, partner, rogue) = (ca("second"), ca("partner"), ca("rogue"));
        Self { root, intermediate, second, partner, rogue, bundle }
    }

    /// A leaf of `issuer` and its key.
    pub(crate) fn leaf(&self, issuer: &Ca, params: &CertificateParams, key: &KeyPair) -> Pair {
        Pair { chain: params.signed_by(key, issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A good leaf, but for what `differs`.
    pub(crate) fn odd(&self, differs: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = leaf_params(WEB);
        differs(&mut params);
        self.leaf(&self.root, &params, &KeyPair::generate().unwrap())
    }

    pub(crate) fn good(&self) -> Pair {
        self.odd(|_| {})
    }

    /// What a client shows.
    pub(crate) fn client(&self, issuer: &Ca, params: &CertificateParams, more: &[&Ca]) -> Credential {
        let key = KeyPair::generate().unwrap();
        let mut chain = vec![params.signed_by(&key, issuer).unwrap().der().clone()];
        chain.extend(more.iter().map(|ca| ca.der().clone()));
        Credential { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    /// A good leaf of that kind of key.
    pub(crate) fn of_kind(&self, kind: &'static SignatureAlgorithm) -> Pair {
        self.leaf(&self.root, &leaf_params(WEB), &KeyPair::generate_for(kind).unwrap())
    }

    /// A good leaf, but for a key that no library here makes: `genpkey` are OpenSSL's arguments for it.
    pub(crate) fn by_openssl(&self, genpkey: &[&str]) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &[&str]| openssl(dir.path(), args);
        fs::write(dir.path().join("ca.pem"), self.root.pem()).unwrap();
        fs::write(dir.path().join("ca.key"), self.root.key().serialize_pem()).unwrap();
        let extensions = format!(
            "subjectAltName=critical,URI:{WEB}\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
        );
        fs::write(dir.path().join("ext"), extensions).unwrap();
        openssl(&[&["genpkey", "-out", "key"], genpkey].concat());
        openssl(&["req", "-new", "-key", "key", "-subj", "/", "-passin", "pass:secret", "-out", "csr"]);
        let sign = ["x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "365"];
        openssl(&[&sign[..], &["-set_serial", "7", "-extfile", "ext", "-out", "leaf"]].concat());
        let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
        Pair { chain: read("leaf"), key: read("key") }
    }
}

fn openssl(within: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(within).output();
    let output = output.expect("this test needs openssl: apt-get install openssl");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The same EC key in its older form. RFC 5915.
pub(crate) fn sec1(key: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key"), key).unwrap();
    openssl(dir.path(), &["ec", "-in", "key", "-out", "sec1"]);
    fs::read_to_string(dir.path().join("sec1")).unwrap()
}

/// How a CRL is right or wrong.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Crl {
    Current,
    Expired,
}

/// `issuer`'s CRL, PEM, without any certificate in it.
pub(crate) fn crl(issuer: &Ca, is: Crl) -> String {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(if is == Crl::Expired { 2026 } else { 2039 }, 2, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

/// PEM of whatever octets.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// DER of the first document in `text`.
pub(crate) fn der(text: &str) -> Vec<u8> {
    let body: String = text.lines().skip(1).take_while(|line| !line.starts_with('-')).collect();
    data_encoding::BASE64.decode(body.as_bytes()).unwrap()
}

/// rcgen ends its lines as Windows does; we do not.
pub(crate) fn unix(text: &str) -> String {
    text.replace("\r\n", "\n")
}
