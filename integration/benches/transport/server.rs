//! The server's process: pushes, and what they cost.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use sds_server::sds::{SdsService, Shared};
use spiffe_bridge::node::{Caller, Session, SessionState, Sessions};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::codec::{SmallCodec, WithCodec};
use super::floor::floor;
use super::generated::Generated;
use super::pushes::{Push, push};
use super::{Guard, PUSHES, STREAMS_PER_CONNECTION, role};

pub(super) static ACKS: AtomicU64 = AtomicU64::new(0);

pub(super) async fn server(mode: &str, streams: usize) {
    metrics::set_global_recorder(Recorder).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let pushes: Vec<Push> = (0..=PUSHES).map(push).collect();
    let (sender, receiver) = watch::channel(pushes[0].clone());
    let mut sessions: Vec<Sessions> = Vec::new();
    let shared = Shared::default();
    let service = SdsService::new(shared.clone());
    let generated = SecretDiscoveryServiceServer::new(Generated(receiver.clone()));
    let before = rss();
    let _client = Guard(
        role()
            .args(["client", path.to_str().unwrap(), &streams.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );

    let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http2.max_concurrent_streams(Some(100_000));
    for connection in 0..streams.div_ceil(STREAMS_PER_CONNECTION) {
        let (stream, _) = listener.accept().await.unwrap();
        let receiver = receiver.clone();
        match mode {
            "tonic" => {
                let service = generated
                    .clone()
                    .map_request(|r: http::Request<hyper::body::Incoming>| r.map(tonic::body::Body::new));
                tokio::spawn(http2.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
            }
            "codec" => {
                let service = tower::service_fn(move |r: http::Request<hyper::body::Incoming>| {
                    let service = WithCodec(receiver.clone());
                    async move {
                        let response = tonic::server::Grpc::new(SmallCodec).streaming(service, r).await;
                        Ok::<_, std::convert::Infallible>(response)
                    }
                });
                tokio::spawn(http2.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
            }
            "frames" => {
                let caller = Caller::local(connection as u64, 1, 1, 1);
                let (writer, session) = Session::channel(caller);
                writer.publish(SessionState::Serving(pushes[0].update.clone()));
                sessions.push(writer);
                let service =
                    service.clone().map_request(move |mut r: http::Request<hyper::body::Incoming>| {
                        r.extensions_mut().insert(session.clone());
                        r
                    });
                tokio::spawn(http2.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
            }
            "floor" => drop(tokio::spawn(floor(stream, receiver))),
            other => panic!("no mode {other}"),
        }
    }
    acked(streams as u64).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let idle = rss();

    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for (number, push) in pushes.iter().enumerate().skip(1) {
        let (cpu_before, begin) = (cpu_ns(), Instant::now());
        sessions.iter().for_each(|writer| writer.publish(SessionState::Serving(push.update.clone())));
        sender.send_replace(push.clone());
        acked((streams * (number + 1)) as u64).await;
        wall.push(begin.elapsed().as_secs_f64() * 1e3);
        cpu.push((cpu_ns() - cpu_before) as f64 / 1e3 / streams as f64);
    }
    let per_stream = |rss: u64| (rss.saturating_sub(before)) as f64 / 1024.0 / streams as f64;
    println!(
        "{mode:7} {streams:7}  {:9}  {:15.1}  {:12.1}  {:14.2}  {:22.2}",
        pushes[1].frame.len(),
        median(&mut cpu),
        median(&mut wall),
        per_stream(idle),
        per_stream(rss())
    );
}

async fn acked(count: u64) {
    while ACKS.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// On-CPU time of the one thread that serves, in nanoseconds.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Resident memory, in bytes.
fn rss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Counts the product's own ACK metric.
struct Recorder;

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let kind = if key.name() == "countersign_sds_acks_total" { Count::Acks } else { Count::Other };
        metrics::Counter::from_arc(Arc::new(kind))
    }
    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }
    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

enum Count {
    Acks,
    Other,
}

impl metrics::CounterFn for Count {
    fn increment(&self, value: u64) {
        if matches!(self, Self::Acks) {
            ACKS.fetch_add(value, Ordering::Relaxed);
        }
    }
    fn absolute(&self, _: u64) {}
}
