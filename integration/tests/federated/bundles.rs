//! What comes on the streams of bundles and SVIDs.

use std::collections::BTreeMap;
use std::time::SystemTime;

use integration::poll;
use integration::scratch::Scratch;
use integration::workload::{ask, next, stream};
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use sds_server::proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest,
    X509svidResponse,
};
use serde_json::Value;

use super::partner::{FRONT, HOUR, PARTNER, PATIENCE, Signer, authority, der, publish, served};

const OURS: &str = "spiffe://example.org";

fn names(bundles: &BTreeMap<String, Vec<u8>>) -> Vec<&str> {
    bundles.keys().map(String::as_str).collect()
}

/// The keys of the partner in a response.
fn keys(response: &JwtBundlesResponse) -> Vec<Value> {
    let set: Value = serde_json::from_slice(&response.bundles[PARTNER]).unwrap();
    set["keys"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partners_roots_and_keys_come_on_the_open_streams_change_there_and_go() {
    let scratch = Scratch::new().unwrap();
    let server = served(&scratch).await;
    let socket = server.socket();
    let mut svids = stream(&socket, "FetchX509SVID", X509svidRequest {}).await.unwrap();
    let mut roots = stream(&socket, "FetchX509Bundles", X509BundlesRequest {}).await.unwrap();
    let mut tokens = stream(&socket, "FetchJWTBundles", JwtBundlesRequest {}).await.unwrap();
    let first: X509svidResponse = next(&mut svids).await.unwrap();
    assert!(first.federated_bundles.is_empty());
    assert_eq!(names(&next::<X509BundlesResponse>(&mut roots).await.unwrap().bundles), [OURS]);
    assert_eq!(names(&next::<JwtBundlesResponse>(&mut tokens).await.unwrap().bundles), [OURS]);

    let (old, new) = (authority(), authority());
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    for (sequence, cas, signers) in [
        (1, &[&old][..], &[&one][..]),
        (2, &[&old, &new], &[&one, &two]), // both are there while the partner goes from one to the other
        (3, &[&new], &[&two]),
    ] {
        publish(&server, sequence, cas, signers, "");
        let expected: Vec<u8> = cas.iter().flat_map(|ca| der(ca)).collect();
        let told = next(&mut svids).await.unwrap();
        assert_eq!(told.federated_bundles, BTreeMap::from([(PARTNER.to_owned(), expected.clone())]));
        assert_eq!(told.svids[0].x509_svid, first.svids[0].x509_svid, "ours is as it was");
        let told = next(&mut roots).await.unwrap();
        assert_eq!(names(&told.bundles), [OURS, PARTNER]);
        assert_eq!((&told.bundles[OURS], &told.bundles[PARTNER]), (&first.svids[0].bundle, &expected));
        let told = next(&mut tokens).await.unwrap();
        assert_eq!(names(&told.bundles), [OURS, PARTNER]);
        let expected: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
        assert_eq!(keys(&told), expected, "the keys of tokens, and no others");
    }

    server.remove_documents("partner").unwrap();
    assert!(next(&mut svids).await.unwrap().federated_bundles.is_empty());
    assert_eq!(names(&next(&mut roots).await.unwrap().bundles), [OURS]);
    assert_eq!(names(&next(&mut tokens).await.unwrap().bundles), [OURS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partners_crls_come_with_its_roots_and_each_new_one_is_told() {
    let scratch = Scratch::new().unwrap();
    let (server, partner) = (served(&scratch).await, authority());
    let signer = Signer::new("one");
    publish(&server, 1, &[&partner], &[&signer], "");
    let told = async || {
        let told: X509svidResponse =
            ask(&server.socket(), "FetchX509SVID", X509svidRequest {}).await.unwrap();
        !told.federated_bundles.is_empty()
    };
    poll::holds("the partner is known", PATIENCE, told).await.unwrap();
    let mut svids = stream(&server.socket(), "FetchX509SVID", X509svidRequest {}).await.unwrap();
    let mut roots = stream(&server.socket(), "FetchX509Bundles", X509BundlesRequest {}).await.unwrap();
    assert!(next::<X509svidResponse>(&mut svids).await.unwrap().crl.is_empty());
    assert!(next::<X509BundlesResponse>(&mut roots).await.unwrap().crl.is_empty());

    let (front, end) = (partner.issue(FRONT, HOUR).unwrap(), SystemTime::now() + HOUR);
    for (number, revoked) in [(1, &[][..]), (2, &[&front])] {
        let crl = partner.crl(number, revoked, end).unwrap();
        publish(&server, 1, &[&partner], &[&signer], &crl);
        let expected = [CertificateRevocationListDer::from_pem_slice(crl.as_bytes()).unwrap().to_vec()];
        let told = next(&mut svids).await.unwrap();
        assert_eq!((told.crl.as_slice(), names(&told.federated_bundles)), (&expected[..], vec![PARTNER]));
        assert_eq!(next(&mut roots).await.unwrap().crl, expected);
    }
    publish(&server, 1, &[&partner], &[&signer], "");
    assert!(next(&mut svids).await.unwrap().crl.is_empty());
    assert!(next(&mut roots).await.unwrap().crl.is_empty());
}
