//! Secrets by the aggregated service: one stream for all, on which requests of other types stay unanswered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use envoy_configs::Api;
use integration::app::App;

use integration::mesh::{Mesh, Plan, Pool, Way};
use integration::poll;
use integration::server::Options;
use integration::tools::Release;

async fn check(release: Release, way: Way, protocol: &str, change: fn(String) -> String) {
    let server = Options { leaf_lifetime: Some("8s".into()), ..Options::default() };
    let (api, pool) = (Api::Ads, Pool::HandshakeEach);
    let plan = Plan { release, way, server, api, change, pool, ..Plan::default() };
    let mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    assert_eq!(mesh.call(&[]).await.unwrap().peer, std::slice::from_ref(&mesh.web_id));

    let first = mesh.api.serial(&mesh.api_id).await.unwrap();
    let renewed = async || mesh.api.serial(&mesh.api_id).await.unwrap() != first;
    poll::holds("renewed on the same stream", Duration::from_secs(10), renewed).await.unwrap();
    mesh.call(&[]).await.unwrap();

    for envoy in [&mesh.web, &mesh.api] {
        let stats = envoy.stats().await.unwrap();
        assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
        assert_eq!(stats.get("control_plane.connected_state"), 1, "ADS, and it lives");
    }
    let streams = mesh.server.cli(&["streams", "-o", "json"]).unwrap();
    let streams: serde_json::Value = serde_json::from_slice(&streams.stdout).unwrap();
    let all = streams.as_array().unwrap();
    assert_eq!(all.len(), 2, "one stream an Envoy: {streams}");
    assert!(all.iter().all(|stream| stream["names"].as_array().unwrap().len() == 2), "{streams}");
    assert!(all.iter().any(|stream| stream["protocol"] == protocol), "{streams}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ads_delta_serves_listeners_and_clusters_on_one_stream() {
    for release in Release::ALL {
        check(release, Way::Socket, "delta", |text| text).await;
    }
}

/// No bootstrap of ours has it: its responses name every secret anew.
fn sotw(text: String) -> String {
    let changed = text.replace("api_type: DELTA_GRPC", "api_type: GRPC");
    assert_ne!(changed, text);
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn ads_state_of_the_world_serves_listeners_and_clusters_on_one_stream() {
    for release in Release::ALL {
        check(release, Way::Socket, "sotw", sotw).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ads_state_of_the_world_serves_over_the_network_as_well() {
    check(Release::default(), Way::Network, "sotw", sotw).await;
}
