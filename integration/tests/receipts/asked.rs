//! What the server tells of receipts, and statistics that are made up.

use std::time::Duration;

use bytes::Bytes;
use integration::http;
use integration::server::Server;
use prost::Message as _;
use sds_server::receipts::otlp::{CUMULATIVE, Export, Gauge, Metric, Point, Resource, Scope, Sum};
use serde_json::Value;
use tonic::transport::Channel;
use tower::{Service as _, ServiceExt as _};

pub(super) const SOON: Duration = Duration::from_secs(30);

/// The value of a metric of the server, all its labels together.
pub(super) async fn metric(server: &Server, name: &str) -> f64 {
    let answer = http::get_unix(&server.data().join("admin.sock"), "/metrics").await.unwrap();
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    let of = |line: &str| line.split(['{', ' ']).next() == Some(name);
    text.lines()
        .filter(|line| of(line))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// Where each name of each client stands, as `countersign streams` tells: node, name, state.
pub(super) fn states(server: &Server) -> Vec<(String, String, String)> {
    let ran = server.cli(&["streams", "-o", "json"]).unwrap();
    let streams: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |stream: &Value| -> Vec<_> {
        let names = stream["names"].as_array().unwrap().iter();
        names.map(|name| (text(&stream["node"]), text(&name["name"]), text(&name["state"]))).collect()
    };
    let mut states: Vec<_> = streams.iter().flat_map(of).collect();
    states.sort();
    states
}

pub(super) fn missing(server: &Server, args: &[&str]) -> (Option<i32>, Value) {
    let ran = server.cli(&[&["streams", "-o", "json", "--not-holding"], args].concat()).unwrap();
    (ran.status.code(), serde_json::from_slice(&ran.stdout).unwrap())
}

pub(super) fn whys(holders: &Value) -> Vec<&str> {
    holders["missing"].as_array().unwrap().iter().map(|missing| missing["why"].as_str().unwrap()).collect()
}

/// A bootstrap that tells nobody its counters.
pub(super) fn without_sink(text: String) -> String {
    let (before, after) = text.split_once("stats_sinks:").unwrap();
    let rest = after.split_once("\nstatic_resources:").unwrap().1;
    format!("{before}static_resources:{rest}")
}

/// The version of the roots.
pub(super) fn version(server: &Server) -> String {
    let told = String::from_utf8(server.cli(&["bundle", "-o", "json"]).unwrap().stdout).unwrap();
    serde_json::from_str::<Value>(&told).unwrap()["version"].as_str().unwrap().to_owned()
}

/// A flush that says of `name` what it would say if `version` were in use.
fn flush(name: &str, version: &str, updates: i64) -> Export {
    let point = |integer: u64| vec![Point { integer: Some(integer.cast_signed()) }];
    let gauge = |name: String, value| Metric { name, gauge: Some(Gauge { points: point(value) }), sum: None };
    let listener = "listener.127.0.0.1_1";
    let metrics = vec![
        gauge(format!("sds.{name}.version"), sds_server::receipts::xxh64::xxh64(version.as_bytes())),
        gauge(format!("{listener}.ssl.certificate.{name}.expiration_unix_time_seconds"), 1),
        Metric {
            name: format!("{listener}.server_ssl_socket_factory.ssl_context_update_by_sds"),
            gauge: None,
            sum: Some(Sum { points: vec![Point { integer: Some(updates) }], temporality: CUMULATIVE }),
        },
    ];
    Export { resources: vec![Resource { scopes: vec![Scope { metrics }] }] }
}

/// Says five times over `channel` that `version` of `name` is in use, more often each time.
pub(super) async fn boast(channel: &mut Channel, name: &str, version: &str) {
    for updates in 1..=5 {
        let message = flush(name, version, updates).encode_to_vec();
        let head = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
        let request = ::http::Request::post(
            "http://sds/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        )
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(http_body_util::Full::new(Bytes::from(head))))
        .unwrap();
        let answer = channel.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().get("grpc-status").is_none_or(|status| status == "0"), "{answer:?}");
    }
}
