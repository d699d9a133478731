//! Secrets by the aggregated service: one stream for all, on which requests of other types stay unanswered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use integration::app::App;
use integration::mesh::{Mesh, Plan, Pool};
use integration::poll;
use integration::server::Options;

const SOURCE: &str = "transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [ { envoy_grpc: { cluster_name: sds } } ]";

/// The listener by ADS; its cluster stays with SDS, because Envoy 1.40 ends at a static cluster with ADS secrets
/// (envoy-sds.md §0.10). CDS is asked for too: nobody answers, and Envoy goes on after a second.
fn by_ads(text: &str, api: &str) -> String {
    let (before, rest) = text.split_once("sds_config: &sds\n").expect("the first use defines it");
    let (_, rest) = rest.split_once("max_interval: 5s } }\n").expect("the end of its definition");
    let (listener, clusters) = rest.split_once("  clusters:\n").expect("clusters come after listeners");
    let listener = listener.replace("*sds", "*ads");
    let sds = format!(
        "&sds {{ resource_api_version: V3, api_config_source: {{ api_type: DELTA_GRPC, {SOURCE} }} }}"
    );
    let clusters = clusters.replacen("*sds", &sds, 1);
    let dynamic = format!(
        "dynamic_resources:\n  ads_config: {{ api_type: {api}, {SOURCE} }}\n  cds_config: {{ resource_api_version: V3, initial_fetch_timeout: 1s, ads: {{}} }}\n"
    );
    let ads = "sds_config: &ads { resource_api_version: V3, initial_fetch_timeout: 5s, ads: {} }\n";
    format!("{before}{ads}{listener}  clusters:\n{clusters}\n{dynamic}")
}

async fn check(protocol: &str, change: fn(String) -> String) {
    let server = Options { leaf_lifetime: Some("8s".into()), ..Options::default() };
    let plan = Plan { server, change, pool: Pool::HandshakeEach, ..Plan::default() };
    let mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    assert_eq!(mesh.call(&[]).await.unwrap().peer, std::slice::from_ref(&mesh.web_id));

    let first = mesh.api.serial(&mesh.api_id).await.unwrap();
    let renewed = async || mesh.api.serial(&mesh.api_id).await.unwrap() != first;
    poll::holds("renewed on the same stream", Duration::from_secs(10), renewed).await.unwrap();
    mesh.call(&[]).await.unwrap();

    let stats = mesh.api.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
    assert_eq!(stats.get("control_plane.connected_state"), 1, "ADS, and it lives");
    let streams = mesh.server.cli(&["streams", "-o", "json"]).unwrap();
    let streams: serde_json::Value = serde_json::from_slice(&streams.stdout).unwrap();
    let ads = streams.as_array().unwrap().iter().filter(|s| s["names"].as_array().unwrap().len() == 2);
    assert_eq!(ads.clone().count(), 1, "both names on one stream: {streams}");
    assert!(ads.into_iter().all(|stream| stream["protocol"] == protocol));
}

#[tokio::test(flavor = "multi_thread")]
async fn ads_state_of_the_world_serves_the_listener() {
    check("sotw", |text| by_ads(&text, "GRPC")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ads_delta_serves_the_listener() {
    check("delta", |text| by_ads(&text, "DELTA_GRPC")).await;
}
