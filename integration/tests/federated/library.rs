//! The Rust client library of SPIFFE, as it is on crates.io.

use integration::poll;
use integration::scratch::Scratch;
use spiffe::{JwtSource, JwtSvid, TrustDomain, X509Source};

use super::partner::{FRONT, PATIENCE, Signer, authority, publish, served};

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_library_follows_a_partner_and_takes_its_tokens() {
    let scratch = Scratch::new().unwrap();
    let (server, partner) = (served(&scratch).await, authority());
    let endpoint = format!("unix:{}", server.socket().display());
    let domain = TrustDomain::new("partner.test").unwrap();
    let x509 = X509Source::builder().endpoint(&endpoint).build().await.unwrap();
    let jwt = JwtSource::builder().endpoint(&endpoint).build().await.unwrap();
    assert!(x509.try_bundle_for_trust_domain(&domain).is_none());
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let parse = |token: &str| JwtSvid::parse_and_validate(token, &*jwt.bundle_set().unwrap(), &["reports"]);
    parse(&one.token(FRONT)).unwrap_err();

    for (sequence, signer, cas) in [(1, &one, &[&partner][..]), (2, &two, &[&partner, &authority()])] {
        publish(&server, sequence, cas, &[signer], "");
        let token = signer.token(FRONT);
        let is_known = async || {
            let bundle = x509.try_bundle_for_trust_domain(&domain);
            bundle.is_some_and(|bundle| bundle.authorities().len() == cas.len()) && parse(&token).is_ok()
        };
        poll::holds("the sources know the partner", PATIENCE, is_known).await.unwrap();
        assert_eq!(parse(&token).unwrap().spiffe_id().to_string(), FRONT);
    }
    parse(&one.token(FRONT)).unwrap_err();
    server.remove_documents("partner").unwrap();
    let is_gone =
        async || x509.try_bundle_for_trust_domain(&domain).is_none() && parse(&two.token(FRONT)).is_err();
    poll::holds("they know it no more", PATIENCE, is_gone).await.unwrap();
}
