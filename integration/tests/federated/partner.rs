//! A partner: its authorities, the keys of its tokens, and the document that tells a server of them.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use integration::ca::Ca;
use integration::scratch::Scratch;
use integration::sds;
use integration::seats::Seats;
use integration::server::{Options, Server};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const WEB: &str = "spiffe://example.org/web";
pub(crate) const PARTNER: &str = "spiffe://partner.test";
pub(crate) const FRONT: &str = "spiffe://partner.test/front";

/// A server that has served this process.
pub(crate) async fn served(scratch: &Scratch) -> Server {
    let server = Server::start(scratch, "server", &Options::default()).await.unwrap();
    server.add_entry(WEB, &[&Seats::here().own_selector().unwrap()]).unwrap();
    sds::svid(&server.socket(), WEB).await.unwrap();
    server
}

pub(crate) fn authority() -> Ca {
    Ca::new("partner", Some(PARTNER)).unwrap()
}

pub(crate) fn der(ca: &Ca) -> Vec<u8> {
    CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap().to_vec()
}

/// A P-256 key as JOSE writes it, of the point in its uncompressed form.
fn jwk(point: &[u8], r#use: &str) -> Value {
    let [x, y] = [&point[1..33], &point[33..65]].map(|number| BASE64URL_NOPAD.encode(number));
    json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": r#use })
}

/// A key of the partner that signs its tokens.
pub(crate) struct Signer(EcdsaKeyPair, &'static str);

impl Signer {
    pub(crate) fn new(kid: &'static str) -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), kid)
    }

    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = jwk(self.0.public_key().as_ref(), "jwt-svid");
        jwk["kid"] = self.1.into();
        jwk
    }

    /// A token of `id` for reports.
    pub(crate) fn token(&self, id: &str) -> String {
        let end = SystemTime::now() + HOUR;
        let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "alg": "ES256", "kid": self.1, "typ": "JWT" });
        let claims = json!({ "sub": id, "aud": ["reports"], "exp": end, "colour": "blue" });
        let encode = |part: &Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

/// Writes the partner's bundle, a SPIFFE bundle document, and its CRLs, PEM.
pub(crate) fn publish(server: &Server, sequence: u32, roots: &[&Ca], signers: &[&Signer], crls: &str) {
    let root = |ca: &&Ca| {
        let der = der(ca);
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let mut jwk = jwk(&parsed.public_key().subject_public_key.data, "x509-svid");
        jwk["x5c"] = json!([BASE64.encode(&der)]);
        jwk
    };
    let keys: Vec<_> = roots.iter().map(root).chain(signers.iter().map(|signer| signer.jwk())).collect();
    let bundle = json!({ "keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": 300 });
    let mut text = format!("kind: TrustDomain\ntrust_domain: partner.test\nbundle: '{bundle}'\n");
    if !crls.is_empty() {
        text += &format!("crls: |\n  {}\n", crls.replace('\n', "\n  "));
    }
    server.write_documents("partner", &text).unwrap();
}
