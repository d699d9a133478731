//! The WIT profile, incubating.

use std::collections::BTreeSet;
use std::sync::Arc;

use sds_server::proto::workload::{WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse};
use sds_server::workload_api::Config;
use serde_json::Value;
use spiffe_bridge::identity::{Revision, TrustBundle, WorkloadUpdate};
use tonic::Code;

use super::fixture::xds::{API, WEB, nothing};
use super::fixture::{Served, first, serve, serve_with};

async fn with_wit() -> Served {
    serve_with(Config { wit_svids: true, ..Config::default() }).await
}

async fn svids(served: &Served, spiffe_id: &str) -> Result<WitsvidResponse, Code> {
    first(served.stream("FetchWITSVID", WitsvidRequest { spiffe_id: spiffe_id.into() }).await).await
}

async fn bundles(served: &Served) -> Result<WitBundlesResponse, Code> {
    first(served.stream("FetchWITBundles", WitBundlesRequest {}).await).await
}

#[tokio::test]
async fn wa_34_unless_it_is_switched_on_it_is_not_there() {
    let served = serve().await;
    served.publish(&served.holding(&[WEB], &[]));
    assert_eq!(svids(&served, "").await.unwrap_err(), Code::Unimplemented);
    assert_eq!(bundles(&served).await.unwrap_err(), Code::Unimplemented);
}

#[tokio::test]
async fn wa_37_without_an_entry_permission_is_denied() {
    let served = with_wit().await;
    served.publish(&nothing());
    assert_eq!(svids(&served, "").await.unwrap_err(), Code::PermissionDenied);
    assert_eq!(bundles(&served).await.unwrap_err(), Code::PermissionDenied);
    served.publish(&served.holding(&[WEB], &[]));
    assert_eq!(svids(&served, API).await.unwrap_err(), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_39_the_wit_bundles_hold_our_own_domain() {
    let served = with_wit().await;
    served.publish(&served.holding(&[WEB], &[]));
    let response = bundles(&served).await.unwrap();
    let set: Value = serde_json::from_str(&response.bundles["spiffe://example.org"]).unwrap();
    assert_eq!(set["keys"][0]["use"], "wit-svid");
}

#[tokio::test]
async fn wa_40_every_key_has_a_kid_of_its_own() {
    let served = with_wit().await;
    // Three keys, each as an authority makes and names it.
    let mut keys = served.bundle.tokens.clone();
    for other in [with_wit().await, with_wit().await] {
        keys.wit.extend(other.bundle.tokens.wit.iter().cloned());
    }
    let TrustBundle { trust_domain: domain, roots, .. } = &*served.bundle;
    let mut update = WorkloadUpdate::clone(&served.holding(&[WEB], &[]));
    update.bundle = Some(Arc::new(
        TrustBundle::new(domain.clone(), roots.clone(), Revision(1)).with_tokens(keys.clone()),
    ));
    served.publish(&Arc::new(update));
    let response = bundles(&served).await.unwrap();
    let set: Value = serde_json::from_str(&response.bundles["spiffe://example.org"]).unwrap();
    let named: BTreeSet<_> =
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!(named.len(), 3);
    assert_eq!(named, keys.wit.iter().map(|key| &*key.kid).collect());
    assert_eq!(set["keys"].as_array().unwrap().len(), 3);
}
