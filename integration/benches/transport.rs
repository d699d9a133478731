//! What one push and its ACK cost, and one idle stream, in each of the ways to serve SDS: docs/decisions/0001-transport.md.
//!
//! `cargo bench -p integration --bench transport`. Each mode runs in a process of its own, on one thread; its clients
//! are another process on the other core. The floor is a bare h2 server that sends one ready frame to all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "bench"
)]

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use envoy_types::pb::google::protobuf::Any;
use futures::{Stream, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use sds_server::sds::frame::Frame;
use sds_server::sds::request::Names;
use sds_server::sds::{
    Heard, Limits, Protocol, Request, Response, SdsService, Shared, Subscription, sotw, wire,
};
use spiffe_bridge::clock::{Clock, Timestamp};
use spiffe_bridge::identity::{
    ContentHash, Identity, Memo, PrivateKey, Revision, Serial, SpiffeId, TrustBundle, Version,
    WorkloadUpdate, X509Svid,
};
use spiffe_bridge::node::{Caller, Session, SessionState, Sessions};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tower::ServiceExt;

const TYPE_URL: &str = sds_server::sds::secret::TYPE_URL;
const MODES: [&str; 4] = ["tonic", "codec", "frames", "floor"];
const STREAMS_PER_CONNECTION: usize = 1000;
const PUSHES: u64 = 15;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", mode, streams] => runtime.block_on(server(mode, streams.parse().unwrap())),
        ["client", path, streams] => runtime.block_on(client(Path::new(path), streams.parse().unwrap())),
        _ => {
            println!(
                "mode    streams  message B  CPU us/push+ACK  wall ms/push  idle KB/stream  after pushes KB/stream"
            );
            for streams in [1000, 10_000] {
                for mode in MODES {
                    let status = role().args(["server", mode, &streams.to_string()]).status().unwrap();
                    assert!(status.success(), "{mode}");
                }
            }
        }
    }
}

fn role() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// Ends the client with its server.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// ---- the server's side

/// One push in the shapes that the modes need.
#[derive(Clone)]
struct Push {
    update: Arc<WorkloadUpdate>,
    any: Arc<Any>,
    /// The whole gRPC frame, the same for all.
    frame: Bytes,
}

/// A root and what it signed to sign leaves: secrets are checked before they are sent.
fn chain() -> &'static (Ca, Ca) {
    static CHAIN: OnceLock<(Ca, Ca)> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let ca = |name| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            (params, KeyPair::generate().unwrap())
        };
        let ((root, root_key), (intermediate, key)) = (ca("root"), ca("intermediate"));
        let root = CertifiedIssuer::self_signed(root, root_key).unwrap();
        let intermediate = CertifiedIssuer::signed_by(intermediate, key, &root).unwrap();
        (root, intermediate)
    })
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn push(number: u64) -> Push {
    let key = KeyPair::generate().unwrap();
    let id = "spiffe://example.org/web";
    let (root, intermediate) = chain();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf = params.signed_by(&key, intermediate).unwrap();
    let svid = X509Svid {
        spiffe_id: SpiffeId::new(id).unwrap(),
        chain: vec![leaf.der().clone(), intermediate.der().clone()],
        key: PrivateKey::from_pkcs8(key.serialize_der().into()),
        serial: Serial::from_octets(&[1]).unwrap(),
        not_before: Timestamp::from_unix_seconds(0),
        not_after: Timestamp::from_unix_seconds(4_000_000_000),
        version: Version { revision: Revision(number), hash: ContentHash::default() },
        memo: Memo::default(),
    };
    let identities = vec![Identity { svid: Arc::new(svid), hint: None }];
    let roots = vec![root.der().clone()];
    let bundle = TrustBundle::new("example.org".try_into().unwrap(), roots, Revision(1));
    let bundle = Some(Arc::new(bundle));
    let update = Arc::new(WorkloadUpdate { identities, bundle, ..WorkloadUpdate::default() });
    let mut engine = Subscription::new(Protocol::Sotw, &Limits::default(), 0);
    let names = Names::All(vec!["default".to_owned()]);
    let request = Request {
        node: None,
        type_url: String::new(),
        nonce: String::new(),
        error: None,
        holds: false,
        names,
    };
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    engine.request(request, now).unwrap();
    let frame = sotw::encode(&engine.next(&update, now).unwrap());
    let frame = Bytes::from([frame.head, frame.content.unwrap()].concat());
    let mut message = DiscoveryResponse::decode(&frame[5..]).unwrap();
    Push { update, any: Arc::new(message.resources.remove(0)), frame }
}

static ACKS: AtomicU64 = AtomicU64::new(0);

async fn server(mode: &str, streams: usize) {
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

// ---- mode 1: generated server, a task and a queue for each stream

struct Generated(watch::Receiver<Push>);

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Generated {
    type DeltaSecretsStream = BoxStream<DeltaDiscoveryResponse>;
    type StreamSecretsStream = BoxStream<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: tonic::Request<tonic::Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamSecretsStream>, Status> {
        let mut requests = request.into_inner();
        let mut pushes = self.0.clone();
        pushes.mark_changed();
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut engine = engine();
            loop {
                tokio::select! {
                    changed = pushes.changed() => if changed.is_err() { return },
                    request = requests.next() => {
                        let Some(Ok(request)) = request else { return };
                        let names = Names::All(request.resource_names);
                        let (type_url, nonce) = (request.type_url, request.response_nonce);
                        hear(&mut engine, Request { node: None, type_url, nonce, error: None, holds: false, names });
                    }
                }
                while let Some((response, push)) = say(&mut engine, &mut pushes) {
                    let Response::Secret { nonce, resource } = response else { continue };
                    let response = DiscoveryResponse {
                        version_info: resource.version_text().to_owned(),
                        resources: vec![(*push.any).clone()],
                        type_url: TYPE_URL.to_owned(),
                        nonce: nonce.to_string(),
                        ..DiscoveryResponse::default()
                    };
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(tonic::Response::new(Box::pin(stream)))
    }

    async fn delta_secrets(
        &self,
        _: tonic::Request<tonic::Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_secrets(
        &self,
        _: tonic::Request<DiscoveryRequest>,
    ) -> Result<tonic::Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// What every mode but the floor does for a stream: the product's own engine.
fn engine() -> Subscription {
    Subscription::new(Protocol::Sotw, &Limits::default(), 7)
}

fn hear(engine: &mut Subscription, request: Request) {
    if let Ok(Heard::Acked(_)) = engine.request(request, Clock::system().now()) {
        ACKS.fetch_add(1, Ordering::Relaxed);
    }
}

fn say(engine: &mut Subscription, pushes: &mut watch::Receiver<Push>) -> Option<(Response, Push)> {
    let push = pushes.borrow_and_update();
    let response = engine.next(&push.update, Clock::system().now())?;
    Some((response, push.clone()))
}

// ---- mode 2: tonic's Grpc with a codec of ready messages and small buffers

#[derive(Clone, Copy)]
struct SmallCodec;

impl tonic::codec::Codec for SmallCodec {
    type Encode = Frame;
    type Decode = Request;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

fn small() -> tonic::codec::BufferSettings {
    tonic::codec::BufferSettings::new(512, 512)
}

impl tonic::codec::Encoder for SmallCodec {
    type Item = Frame;
    type Error = Status;
    fn encode(&mut self, item: Frame, dst: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item.head.slice(5..));
        dst.put(item.content.unwrap_or_default());
        Ok(())
    }
    fn buffer_settings(&self) -> tonic::codec::BufferSettings {
        small()
    }
}

impl tonic::codec::Decoder for SmallCodec {
    type Item = Request;
    type Error = Status;
    fn decode(&mut self, src: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let message = src.copy_to_bytes(src.remaining());
        sotw::decode(message).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
    fn buffer_settings(&self) -> tonic::codec::BufferSettings {
        small()
    }
}

struct WithCodec(watch::Receiver<Push>);

impl tonic::server::StreamingService<Request> for WithCodec {
    type Response = Frame;
    type ResponseStream = BoxStream<Frame>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<Request>>) -> Self::Future {
        let mut pushes = self.0.clone();
        pushes.mark_changed();
        let state = (engine(), pushes, request.into_inner());
        let stream = futures::stream::unfold(state, |(mut engine, mut pushes, mut requests)| async move {
            loop {
                if let Some((response, _)) = say(&mut engine, &mut pushes) {
                    return Some((Ok(sotw::encode(&response)), (engine, pushes, requests)));
                }
                tokio::select! {
                    changed = pushes.changed() => changed.ok()?,
                    request = requests.next() => hear(&mut engine, request?.ok()?),
                }
            }
        });
        std::future::ready(Ok(tonic::Response::new(Box::pin(stream))))
    }
}

// ---- the floor: h2, one ready frame for all, ACKs counted and not read

async fn floor(stream: UnixStream, pushes: watch::Receiver<Push>) {
    let mut builder = h2::server::Builder::new();
    // hyper's windows; with h2's own, requests are cut into pieces and the ACKs miscounted.
    builder
        .max_concurrent_streams(100_000)
        .initial_connection_window_size(1 << 20)
        .initial_window_size(1 << 20);
    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut pushes = pushes.clone();
        pushes.mark_changed();
        tokio::spawn(async move {
            let response =
                http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut send = respond.send_response(response, false).unwrap();
            let mut body = request.into_body();
            let mut first = true;
            loop {
                tokio::select! {
                    changed = pushes.changed() => {
                        let Ok(()) = changed else { return };
                        let frame = pushes.borrow_and_update().frame.clone();
                        if send.send_data(frame, false).is_err() { return }
                    }
                    data = body.data() => {
                        let Some(Ok(data)) = data else { return };
                        let _ = body.flow_control().release_capacity(data.len());
                        if !std::mem::take(&mut first) {
                            ACKS.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
    }
}

// ---- the clients

async fn client(path: &Path, streams: usize) {
    let mut left = streams;
    while left > 0 {
        let count = left.min(STREAMS_PER_CONNECTION);
        left -= count;
        tokio::spawn(connection(path.to_owned(), count));
    }
    std::future::pending::<()>().await;
}

async fn connection(path: PathBuf, streams: usize) {
    let stream = UnixStream::connect(path).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(64 << 20).initial_max_send_streams(100_000);
    let (mut send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..streams {
        send = send.ready().await.unwrap();
        let request =
            http::Request::post("http://sds/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .unwrap();
        let (response, body) = send.send_request(request, false).unwrap();
        tokio::spawn(envoy(response, body));
    }
    std::future::pending::<()>().await;
}

/// Subscribes to `default`, and acknowledges whatever comes.
async fn envoy(response: h2::client::ResponseFuture, mut body: h2::SendStream<Bytes>) {
    let node = Node { id: "envoy".into(), cluster: "bench".into(), ..Node::default() };
    body.send_data(request(Some(node), String::new(), String::new()), false).unwrap();
    let Ok(response) = response.await else { return }; // the server is done
    let mut receive = response.into_body();
    let mut buf = BytesMut::new();
    while let Some(Ok(data)) = receive.data().await {
        receive.flow_control().release_capacity(data.len()).unwrap();
        buf.extend_from_slice(&data);
        while buf.len() >= 5 {
            let len = u32::from_be_bytes(buf[1..5].try_into().unwrap()) as usize;
            if buf.len() < 5 + len {
                break;
            }
            let mut message = buf.split_to(5 + len);
            message.advance(5);
            let head = wire::DiscoveryResponseHead::decode(message.freeze()).unwrap();
            body.send_data(request(None, head.version_info, head.nonce), false).unwrap();
        }
    }
}

fn request(node: Option<Node>, version_info: String, response_nonce: String) -> Bytes {
    let request = DiscoveryRequest {
        node,
        version_info,
        response_nonce,
        resource_names: vec!["default".to_owned()],
        type_url: TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    };
    let mut buf = BytesMut::from(&[0; 5][..]);
    request.encode(&mut buf).unwrap();
    let len = u32::try_from(buf.len() - 5).unwrap();
    buf[1..5].copy_from_slice(&len.to_be_bytes());
    buf.freeze()
}
