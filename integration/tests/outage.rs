//! Envoy and its callers notice neither a crash of the server nor the order in which things come up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant};

use integration::app::App;
use integration::envoy::Envoy;
use integration::load::{Load, Mode};
use integration::mesh::{Mesh, Plan, Pool, bootstrap, settings};
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::Server;
use integration::stranger::{Attempt, call};
use integration::{poll, sds};

const SOON: Duration = Duration::from_secs(15);

/// Open SDS streams of this Envoy.
async fn connected(envoy: &Envoy) -> u64 {
    envoy.stats().await.unwrap().sum("sds.", ".control_plane.connected_state")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_comes_back_and_no_context_is_rebuilt() {
    let mut mesh = Mesh::start(&Plan { pool: Pool::HandshakeEach, ..Plan::default() }).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    mesh.call(&[]).await.unwrap();
    let streams = (connected(&mesh.web).await, connected(&mesh.api).await);
    assert!(streams.0 >= 2 && streams.1 >= 2, "one for the certificate, one for the roots: {streams:?}");
    let before = (mesh.web.stats().await.unwrap(), mesh.api.stats().await.unwrap());
    let load = Load::start(mesh.calls, &[Mode::Kept, Mode::Fresh], Duration::from_millis(10));

    mesh.server.kill().unwrap();
    poll::holds("both Envoys see the server gone", SOON, async || {
        connected(&mesh.web).await == 0 && connected(&mesh.api).await == 0
    })
    .await
    .unwrap();
    let answered = load.so_far().answered;
    poll::holds("calls go on without a server", SOON, async || load.so_far().answered > answered + 100)
        .await
        .unwrap();

    mesh.server.restart().await.unwrap();
    poll::holds("all streams are back", SOON, async || {
        (connected(&mesh.web).await, connected(&mesh.api).await) == streams
    })
    .await
    .unwrap();
    // An answer that came with the reconnection shows as a success; then nothing may have changed.
    poll::holds("the server has answered again", SOON, async || {
        let (web, api) = tokio::try_join!(mesh.web.stats(), mesh.api.stats()).unwrap();
        web.sum("sds.", ".update_attempt") > before.0.sum("sds.", ".update_attempt")
            && api.sum("sds.", ".update_attempt") > before.1.sum("sds.", ".update_attempt")
    })
    .await
    .unwrap();
    mesh.call(&[]).await.unwrap();
    let tally = load.stop().await;
    assert_eq!(tally.failed, 0, "{:?}", tally.first_failure);
    let after = (mesh.web.stats().await.unwrap(), mesh.api.stats().await.unwrap());
    assert_eq!(after.0.applied(), before.0.applied(), "web: what was held is held");
    assert_eq!(after.1.applied(), before.1.applied(), "api: what was held is held");
    assert_eq!(after.0.sum("sds.", ".update_rejected") + after.1.sum("sds.", ".update_rejected"), 0);
    mesh.server.stop().await.expect("SIGTERM ends it well");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_added_while_a_listener_waits_opens_it_within_a_second() {
    let plan = Plan::default();
    let scratch = Scratch::new().unwrap();
    let seats = Seats::here();
    let seat = seats.take(&scratch, 0).unwrap();
    let server = Server::start(&scratch, "server", &plan.server).await.unwrap();
    server.add_entry("spiffe://example.org/web", &[&seats.own_selector().unwrap()]).unwrap();
    let settings = settings(&scratch, "api", &server, &plan).unwrap();
    let _app = App::start("api", settings.app).await.unwrap();
    let mut envoy = Envoy::start(&scratch, "api", &seat, &bootstrap(&settings, Pool::Kept).unwrap()).unwrap();
    envoy.live().await.unwrap();
    let mine = poll::until("this process has its SVID", SOON, async || {
        sds::svid(&server.socket(), "default").await.ok()
    })
    .await
    .unwrap();
    assert!(call(settings.inbound, Some(&mine)).await.unwrap().is_refused(), "no certificate yet");

    let start = Instant::now();
    server.add_entry("spiffe://example.org/api", &[&seat.selector]).unwrap();
    poll::holds("the listener answers", Duration::from_secs(10), async || {
        matches!(call(settings.inbound, Some(&mine)).await, Ok(Attempt::Answered(_)))
    })
    .await
    .unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}
