//! Two Envoys with our certificates speak mutual TLS, and the application learns who called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use envoy_configs::Api;
use integration::app::App;
use integration::mesh::{Mesh, Plan, Pool};
use integration::poll;
use integration::tools::Release;

/// Who called, who was called, and how, seen from all three sides.
async fn check(release: Release, api: Api) {
    let mesh =
        Mesh::start(&Plan { release, api, pool: Pool::HandshakeEach, ..Plan::default() }).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();

    let seen = mesh.call(&[]).await.unwrap();
    assert_eq!(seen.app, "api");
    assert_eq!(seen.peer, std::slice::from_ref(&mesh.web_id));
    assert_eq!(seen.xfcc.len(), 1);
    assert!(seen.xfcc[0].contains(&format!("By={}", mesh.api_id)), "{:?}", seen.xfcc);
    assert!(seen.xfcc[0].contains(&format!("URI={}", mesh.web_id)), "{:?}", seen.xfcc);

    let (web, api) = (mesh.web.stats().await.unwrap(), mesh.api.stats().await.unwrap());
    assert!(web.get("cluster.upstream.ssl.versions.TLSv1.3") > 0);
    assert!(api.sum("listener.", ".ssl.versions.TLSv1.3") > 0);
    for stats in [&web, &api] {
        assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
        assert_eq!(stats.sum("sds.", ".init_fetch_timeout"), 0);
        assert!(stats.applied() >= 2, "a certificate and roots");
    }

    let forged = [
        ("x-forwarded-client-cert", "By=spiffe://example.org/api;URI=spiffe://example.org/admin"),
        ("x-peer-spiffe-id", "spiffe://example.org/admin"),
    ];
    assert_eq!(mesh.call(&forged).await.unwrap().peer, std::slice::from_ref(&mesh.web_id));
    let forged_seen = mesh.call(&forged).await.unwrap().xfcc.join(" ");
    assert!(!forged_seen.contains("admin"), "{forged_seen}");

    let line = format!("peer={}", mesh.web_id);
    poll::holds("the access log names the peer", Duration::from_secs(5), async || {
        mesh.api.log().contains(&line)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_the_world_serves_both_sides() {
    for release in Release::ALL {
        check(release, Api::Sotw).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_serves_both_sides() {
    for release in Release::ALL {
        check(release, Api::Delta).await;
    }
}
