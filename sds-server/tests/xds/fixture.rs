//! Identities, bundles, requests and a served Unix socket: what the rows need, and no more.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::Any;
use hyper_util::rt::TokioIo;
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use sds_server::endpoint::uds::Listener;
use sds_server::endpoint::{Config, Limits as ConnectionLimits, Server};
use sds_server::runtime::{Drainer, drain};
use sds_server::sds::request::Names;
use sds_server::sds::{Limits, Protocol, Request, Response, SdsService, Shared, Subscription};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{
    ContentHash, Identity, Memo, PrivateKey, Revision, Serial, SpiffeId, TokenKeys, TrustBundle, TrustDomain,
    Version, WorkloadUpdate, X509Svid,
};
use spiffe_bridge::node::{Caller, Session, SessionState, Sessions};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

pub(crate) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
pub(crate) const WEB: &str = "spiffe://example.org/web";
pub(crate) const API: &str = "spiffe://example.org/api";

/// Long before any SVID here ends.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

/// The root of all leaves here.
fn ca() -> &'static CertifiedIssuer<'static, KeyPair> {
    static CA: OnceLock<CertifiedIssuer<'static, KeyPair>> = OnceLock::new();
    CA.get_or_init(|| {
        CertifiedIssuer::self_signed(root_params("root"), KeyPair::generate().unwrap()).unwrap()
    })
}

fn root_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(crate) fn svid(id: &str, revision: u64) -> X509Svid {
    svid_that(id, revision, |_| {})
}

/// One that `differs`.
pub(crate) fn svid_that(id: &str, revision: u64, differs: impl Fn(&mut CertificateParams)) -> X509Svid {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    differs(&mut params);
    let leaf = params.signed_by(&key, ca()).unwrap();
    X509Svid {
        spiffe_id: SpiffeId::new(id).unwrap(),
        chain: vec![leaf.der().to_vec().into()],
        key: PrivateKey::from_pkcs8(key.serialize_der().into()),
        serial: Serial::from_octets(&[1]).unwrap(),
        not_before: Timestamp::from_unix_seconds(0),
        not_after: Timestamp::from_unix_seconds(4_000_000_000),
        version: Version { revision: Revision(revision), hash: ContentHash::of(&[leaf.der()]) },
        memo: Memo::default(),
    }
}

pub(crate) fn version(revision: u64) -> Version {
    Version { revision: Revision(revision), hash: ContentHash::of(&[&revision.to_be_bytes()]) }
}

/// The root of all leaves here, and another one.
pub(crate) fn bundle(revision: u64) -> Arc<TrustBundle> {
    let other = root_params("other").self_signed(&KeyPair::generate().unwrap()).unwrap();
    Arc::new(TrustBundle {
        trust_domain: TrustDomain::new("example.org").unwrap(),
        roots: vec![ca().der().clone(), other.der().clone()],
        crls: Vec::new(),
        tokens: TokenKeys::default(),
        version: version(revision),
        memo: Memo::default(),
    })
}

/// What a caller holds: these identities, and the bundle of our domain.
pub(crate) fn update(svids: impl IntoIterator<Item = Arc<X509Svid>>) -> Arc<WorkloadUpdate> {
    let mut identities: Vec<_> = svids.into_iter().map(|svid| Identity { svid, hint: None }).collect();
    identities.sort_by(|a, b| a.svid.spiffe_id.cmp(&b.svid.spiffe_id));
    Arc::new(WorkloadUpdate { identities, bundle: Some(bundle(1)), ..WorkloadUpdate::default() })
}

pub(crate) fn holding(ids: &[&str], revision: u64) -> Arc<WorkloadUpdate> {
    update(ids.iter().map(|id| Arc::new(svid(id, revision))))
}

pub(crate) fn nothing() -> Arc<WorkloadUpdate> {
    Arc::new(WorkloadUpdate::default())
}

pub(crate) fn engine(protocol: Protocol) -> Subscription {
    Subscription::new(protocol, &Limits::default(), 0x5a17)
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn request(names: Names) -> Request {
    Request {
        node: None,
        type_url: SECRET.to_owned(),
        nonce: String::new(),
        error: None,
        holds: false,
        names,
    }
}

/// SotW: all of these.
pub(crate) fn all(names: &[&str]) -> Request {
    request(Names::All(strings(names)))
}

/// Delta: these too, and those no more.
pub(crate) fn change(subscribe: &[&str], unsubscribe: &[&str]) -> Request {
    let (subscribe, unsubscribe) = (strings(subscribe), strings(unsubscribe));
    request(Names::Change { subscribe, unsubscribe, held: Vec::new() })
}

pub(crate) trait Answering {
    fn to(self, nonce: &str) -> Self;
    fn refusing(self) -> Self;
}

impl Answering for Request {
    fn to(self, nonce: &str) -> Self {
        Self { nonce: nonce.to_owned(), ..self }
    }
    fn refusing(self) -> Self {
        let reason = sds_server::sds::nack::Reason::scrub(13, "Failed to load private key from <inline>");
        Self { error: Some(reason), ..self }
    }
}

/// What was sent: nonce, and name and version, or what is gone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Secret { nonce: String, name: String, version: String },
    Gone { nonce: String, names: Vec<String> },
}

impl Said {
    pub(crate) fn nonce(&self) -> &str {
        match self {
            Self::Secret { nonce, .. } | Self::Gone { nonce, .. } => nonce,
        }
    }
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Secret { name, .. } => name,
            Self::Gone { .. } => panic!("{self:?}"),
        }
    }
    pub(crate) fn gone(&self) -> &[String] {
        match self {
            Self::Gone { names, .. } => names,
            Self::Secret { .. } => panic!("{self:?}"),
        }
    }
}

/// All that the engine has to say now.
pub(crate) fn say(engine: &mut Subscription, update: &Arc<WorkloadUpdate>) -> Vec<Said> {
    let mut said = Vec::new();
    while let Some(response) = engine.next(update, now()) {
        said.push(match response {
            Response::Secret { nonce, resource } => Said::Secret {
                nonce: nonce.to_string(),
                name: resource.name().to_owned(),
                version: resource.version().to_string(),
            },
            Response::Removed { nonce, names } => Said::Gone {
                nonce: nonce.to_string(),
                names: names.iter().map(|name| name.to_string()).collect(),
            },
        });
        assert!(said.len() < 100_000, "it never ends");
    }
    said
}

/// The names of what was sent.
pub(crate) fn names(said: &[Said]) -> Vec<&str> {
    said.iter().map(Said::name).collect()
}

pub(crate) fn secret(any: &Any) -> Secret {
    assert_eq!(any.type_url, SECRET);
    Secret::decode(any.value.as_slice()).unwrap()
}

/// The endpoint with the service, for one caller: whoever connects has this session.
pub(crate) struct Served {
    pub(crate) sessions: Sessions,
    pub(crate) shared: Shared,
    pub(crate) path: std::path::PathBuf,
    _drainer: Drainer,
    _dir: tempfile::TempDir,
}

pub(crate) async fn serve(limits: Limits) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = Listener::bind(&path, 0o600).unwrap();
    let (sessions, session) = Session::channel(Caller::local(7, 42, 1001, 1001));
    let shared = Shared { limits, ..Shared::default() };
    let (config, (drainer, drain)) = (Config::default(), drain::channel());
    let connections = ConnectionLimits::new(&config, 1000);
    let admit = move |_, _| (session.clone(), std::future::pending());
    let server = Server::new(listener, connections, config, SdsService::new(shared.clone()), admit);
    tokio::spawn(server.run(drain));
    Served { sessions, shared, path, _drainer: drainer, _dir: dir }
}

impl Served {
    pub(crate) fn publish(&self, update: &Arc<WorkloadUpdate>) {
        self.sessions.publish(SessionState::Serving(update.clone()));
    }

    pub(crate) async fn channel(&self) -> Channel {
        let path = self.path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://sds").connect_with_connector(connector).await.unwrap()
    }

    pub(crate) async fn client(&self) -> SecretDiscoveryServiceClient<Channel> {
        SecretDiscoveryServiceClient::new(self.channel().await)
    }
}

/// The next message, which must come at once.
pub(crate) async fn soon<T>(stream: &mut tonic::Streaming<T>) -> Result<T, tonic::Status> {
    let message = tokio::time::timeout(Duration::from_secs(5), stream.message()).await.expect("no answer");
    message.map(|message| message.expect("the stream ended"))
}

/// Asserts that nothing comes. The only wait for real time: silence cannot be seen otherwise.
pub(crate) async fn silent<T: std::fmt::Debug>(stream: &mut tonic::Streaming<T>) {
    let message = tokio::time::timeout(Duration::from_millis(150), stream.message()).await;
    assert!(message.is_err(), "{message:?}");
}
