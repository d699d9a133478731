//! Renewals under load cost no request, with a handshake for each and nobody retrying.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant};

use integration::app::App;
use integration::load::{Load, Mode};
use integration::mesh::{Mesh, Plan, Pool};
use integration::poll;
use integration::server::Options;

const RENEWALS: u64 = 300;

/// Contexts rebuilt: on the called side by its listener, on the calling side by its cluster.
async fn rebuilt(mesh: &Mesh) -> (u64, u64) {
    let (api, web) = tokio::try_join!(mesh.api.stats(), mesh.web.stats()).unwrap();
    let listener = api.sum("listener.", "server_ssl_socket_factory.ssl_context_update_by_sds");
    (listener, web.get("cluster.upstream.client_ssl_socket_factory.ssl_context_update_by_sds"))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_renewals_in_half_a_minute_fail_no_request() {
    // Every 90 ms: 0.0045 of 20 s, which keeps whole seconds in the certificates.
    let server = Options { leaf_lifetime: Some("20s".into()), renew_at: Some(0.0045), ..Options::default() };
    let mesh = Mesh::start(&Plan { server, pool: Pool::HandshakeEach, ..Plan::default() }).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    mesh.call(&[]).await.unwrap();

    let before = rebuilt(&mesh).await;
    let start = Instant::now();
    let load = Load::start(mesh.calls, &[Mode::Kept, Mode::Fresh], Duration::from_millis(10));
    // Half a minute on a machine of its own; what else runs here may slow it down.
    poll::holds("300 renewals on each side", Duration::from_secs(60), async || {
        let now = rebuilt(&mesh).await;
        now.0 - before.0 >= RENEWALS && now.1 - before.1 >= RENEWALS
    })
    .await
    .unwrap();
    let took = start.elapsed();
    let tally = load.stop().await;

    println!("{RENEWALS} renewals a side in {took:.1?}: {tally:?}");
    assert_eq!(tally.failed, 0, "{:?}", tally.first_failure);
    assert!(tally.answered > 500, "{tally:?}");
    let (web, api) = (mesh.web.stats().await.unwrap(), mesh.api.stats().await.unwrap());
    assert!(api.sum("listener.", ".ssl.handshake") >= tally.answered, "a handshake for each request");
    for (name, stats) in [("web", &web), ("api", &api)] {
        for counter in [".ssl.connection_error", ".ssl.fail_verify_error", ".ssl.fail_verify_san"] {
            assert_eq!(stats.sum("", counter), 0, "{name} {counter}");
        }
        assert_eq!(stats.sum("sds.", ".update_rejected"), 0, "{name}");
        assert_eq!(stats.sum("cluster.", ".upstream_rq_retry"), 0, "{name}");
    }
}
