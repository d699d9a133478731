//! The WIT profile, incubating.

use std::collections::BTreeSet;

use sds_server::proto::workload::{WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse};
use sds_server::workload_api::Config;
use serde_json::Value;
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
    served.publish(&served.holding(&[WEB], &[]));
    let response = bundles(&served).await.unwrap();
    let set: Value = serde_json::from_str(&response.bundles["spiffe://example.org"]).unwrap();
    let kids: Vec<_> =
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!(kids.iter().collect::<BTreeSet<_>>().len(), kids.len());
}
