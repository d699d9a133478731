//! A served socket for one caller, and a client of the Workload API that writes what a test wants written.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use sds_server::runtime::Readiness;
use sds_server::sds::frame::Frame;
use sds_server::workload_api::{Config, Feeds, LOCAL, Neighbours, Shared, WorkloadApi};
use spiffe_bridge::audit::Log;
use spiffe_bridge::authority;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::{
    Admitted, Memo, Reach, Revision, Trust, TrustBundle, TrustDomain, WorkloadUpdate,
};
use spiffe_bridge::keys::MemoryKeys;
use spiffe_bridge::node::{self, Caller, Node, SealingKey, Session, SessionState, Sessions};
use spiffe_bridge::registration::EntryIndex;
use spiffe_bridge::store;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tonic::codec::Streaming;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::ServiceExt;

#[path = "../xds/fixture.rs"]
#[allow(dead_code, unused_imports, reason = "the other tests use the rest")]
pub(crate) mod xds;

pub(crate) struct Served {
    pub(crate) sessions: Sessions,
    pub(crate) readiness: Readiness,
    pub(crate) feeds: Feeds,
    pub(crate) channel: Channel,
    pub(crate) path: std::path::PathBuf,
    /// Of the authority behind it.
    pub(crate) bundle: Arc<TrustBundle>,
    _dir: tempfile::TempDir,
}

/// A server that is ready, with one caller, of whom nothing is known yet.
pub(crate) async fn serve() -> Served {
    serve_with(Config::default()).await
}

pub(crate) async fn serve_with(config: Config) -> Served {
    serve_to(Caller::local(7, 42, 1001, 1001), config).await
}

/// An authority in memory, and a node that asks it.
async fn node(dir: &Path, clock: &Clock) -> (Node, Arc<TrustBundle>) {
    let (store, writer) = store::in_memory().unwrap();
    std::thread::spawn(move || writer.run());
    let keys = Arc::new(MemoryKeys::new());
    let config = authority::Config::new(TrustDomain::new("example.org").unwrap());
    authority::init(&config, keys.clone(), &store, clock).await.unwrap();
    let log = Log::open(store.clone(), clock.clone()).unwrap();
    authority::complete(&config, keys.clone(), &store, &log).await.unwrap();
    let (authority, issuer) = authority::open(config, keys, store.clone(), log, clock.clone()).unwrap();
    let bundle = authority.bundle().borrow().clone();
    let index = EntryIndex::new(Revision::default(), []);
    let (sender, index) = tokio::sync::watch::channel(Arc::new(index));
    let key = SealingKey::load_or_create(&dir.join("sealing.key")).unwrap();
    let (node, engine) = node::open(node::Config::default(), authority, index, store, key, clock.clone());
    tokio::spawn(issuer.run(CancellationToken::new()));
    tokio::spawn(async move {
        engine.run(CancellationToken::new()).await;
        drop(sender);
    });
    (node, bundle)
}

pub(crate) async fn serve_to(caller: Caller, config: Config) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sessions, session) = Session::channel(caller);
    let clock = Clock::system();
    let (node, authoritys) = node(dir.path(), &clock).await;
    let readiness = Readiness::new();
    let feeds = Feeds::new(clock.clone());
    let shared =
        Shared { clock, node, readiness: readiness.clone(), config, jwt_audiences: 2, feeds: feeds.clone() };
    let (neighbours, _health) = Neighbours::new(LOCAL).await.unwrap();
    // What is not ours goes on to SDS; here nobody stands behind.
    let nobody = tower::service_fn(async |_| {
        let body = Empty::<Frame>::new();
        Ok::<_, Infallible>(Status::unimplemented("elsewhere").into_http::<()>().map(|()| body))
    });
    let service = WorkloadApi::beside(nobody, shared, neighbours);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let session = session.clone();
            let service =
                service.clone().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
                    request.extensions_mut().insert(session.clone());
                    request.map(tonic::body::Body::new)
                });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            tokio::spawn(connection);
        }
    });
    let socket = path.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://api").connect_with_connector(connector).await.unwrap();
    Served { sessions, readiness, feeds, channel, path: socket, bundle: authoritys, _dir: dir }
}

impl Served {
    pub(crate) fn publish(&self, update: &Arc<WorkloadUpdate>) {
        self.sessions.publish(SessionState::Serving(update.clone()));
    }

    /// What a caller holds that has `ids`, under the bundle of the authority.
    pub(crate) fn holding(&self, ids: &[&str], hints: &[&str]) -> Arc<WorkloadUpdate> {
        let mut update = WorkloadUpdate::clone(&holding(ids, hints, &[]));
        update.bundle = Some(self.bundle.clone());
        Arc::new(update)
    }

    /// The answer of a call that has one.
    pub(crate) async fn call<Q, A>(&self, method: &str, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let path = format!("/SpiffeWorkloadAPI/{method}").parse().unwrap();
        let mut request = tonic::Request::new(question);
        request.metadata_mut().append("workload.spiffe.io", AsciiMetadataValue::from_static("true"));
        Ok(client.unary(request, path, tonic_prost::ProstCodec::<Q, A>::default()).await?.into_inner())
    }

    /// A stream of `method`, with the security header.
    pub(crate) async fn stream<Q, A>(&self, method: &str, question: Q) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.stream_with(method, question, &["true"]).await
    }

    /// The same, with these values of the header.
    pub(crate) async fn stream_with<Q, A>(
        &self,
        method: &str,
        question: Q,
        header: &[&str],
    ) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let path = format!("/SpiffeWorkloadAPI/{method}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let mut request = tonic::Request::new(question);
        for value in header {
            request
                .metadata_mut()
                .append("workload.spiffe.io", AsciiMetadataValue::try_from(*value).unwrap());
        }
        Ok(client.server_streaming(request, path, codec).await?.into_inner())
    }
}

/// The next message, or how the stream ended; it must come at once.
pub(crate) async fn next<A>(stream: &mut Streaming<A>) -> Result<A, Code> {
    xds::soon(stream).await.map_err(|status| status.code())
}

/// How a stream answers at first: with a message, or with an end.
pub(crate) async fn first<A>(opened: Result<Streaming<A>, Status>) -> Result<A, Code> {
    next(&mut opened.map_err(|status| status.code())?).await
}

/// What a caller holds that has `ids` and may trust `domains` besides.
pub(crate) fn holding(ids: &[&str], hints: &[&str], domains: &[&str]) -> Arc<WorkloadUpdate> {
    let mut update = WorkloadUpdate::clone(&xds::holding(ids, 1));
    for (identity, hint) in update.identities.iter_mut().zip(hints) {
        identity.hint = (!hint.is_empty()).then(|| (*hint).into());
    }
    let own = update.bundle.clone().unwrap();
    let other = |domain: &&str| {
        let roots = xds::bundle(1).roots.clone();
        Arc::new(TrustBundle::new(TrustDomain::new(domain).unwrap(), roots, Revision(1)))
    };
    let bundles = std::iter::once(own).chain(domains.iter().map(other)).collect();
    let (admitted, revision, memo) = (Admitted::Everybody, Revision(1), Memo::default());
    let all = Some(Arc::new(Trust { bundles, admitted, revision, memo }));
    update.reach = Arc::new(Reach { all, ..Reach::default() });
    Arc::new(update)
}

/// Entries match, but there is no SVID yet.
pub(crate) fn entitled() -> Arc<WorkloadUpdate> {
    holding(&[], &[], &[])
}
