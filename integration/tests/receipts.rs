//! What real Envoys' statistics prove of the secrets that they were sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use integration::mesh::{Mesh, Plan};
use integration::server::Server;
use integration::{http, poll};

/// The value of a metric of the server, all its labels together.
async fn metric(server: &Server, name: &str) -> f64 {
    let answer = http::get_unix(&server.data().join("admin.sock"), "/metrics").await.unwrap();
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    let of = |line: &str| line.split(['{', ' ']).next() == Some(name);
    text.lines()
        .filter(|line| of(line))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_bootstraps_tell_the_server_their_counters() {
    let mesh = Mesh::start(&Plan::default()).await.unwrap();
    poll::holds("both Envoys flush", Duration::from_secs(20), async || {
        metric(&mesh.server, "countersign_receipts_total").await >= 4.0
    })
    .await
    .unwrap();
    assert_eq!(metric(&mesh.server, "countersign_receipts_refused_total").await, 0.0);
    assert_eq!(metric(&mesh.server, "countersign_sds_refused_total").await, 0.0);
}
