//! An SDS server that sends whatever it is told, past every check, and waits for Envoy's verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use envoy_types::pb::google::protobuf::Any;
use futures::Stream;
use prost::Message;
use sds_server::sds::secret::TYPE_URL;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// What Envoy said of a secret.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Ack,
    /// With its words.
    Nack(String),
}

/// What is to be sent under a name, and how the newest was taken.
struct Line {
    content: watch::Sender<(u64, Option<Type>)>,
    verdict: watch::Sender<(u64, Verdict)>,
}

#[derive(Clone, Default)]
pub(crate) struct Pusher(Arc<Mutex<BTreeMap<String, Arc<Line>>>>);

impl Pusher {
    /// Serves `first`, by name, on a Unix socket that anybody may use.
    pub(crate) fn serve(socket: &Path, first: &[(&str, Option<Type>)]) -> Self {
        let pusher = Self::default();
        for (name, content) in first {
            let line = Line {
                content: watch::Sender::new((1, content.clone())),
                verdict: watch::Sender::new((0, Verdict::Ack)),
            };
            pusher.0.lock().unwrap().insert((*name).to_owned(), Arc::new(line));
        }
        let listener = UnixListener::bind(socket).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(socket, mode).unwrap();
        let service = SecretDiscoveryServiceServer::new(pusher.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        pusher
    }

    fn line(&self, name: &str) -> Option<Arc<Line>> {
        self.0.lock().unwrap().get(name).cloned()
    }

    /// Sends `content` under `name`, and waits for the verdict on it.
    pub(crate) async fn push(&self, name: &str, content: Option<Type>) -> Verdict {
        let line = self.line(name).unwrap();
        let version = line.content.borrow().0 + 1;
        line.content.send_replace((version, content));
        let mut verdict = line.verdict.subscribe();
        let answered = verdict.wait_for(|(of, _)| *of == version);
        tokio::time::timeout(Duration::from_secs(20), answered).await.expect("no verdict").unwrap().1.clone()
    }
}

fn response(name: &str, version: u64, content: Option<Type>) -> DiscoveryResponse {
    let secret = Secret { name: name.to_owned(), r#type: content };
    DiscoveryResponse {
        version_info: version.to_string(),
        resources: vec![Any { type_url: TYPE_URL.to_owned(), value: secret.encode_to_vec() }],
        type_url: TYPE_URL.to_owned(),
        nonce: version.to_string(),
        ..DiscoveryResponse::default()
    }
}

/// One stream, which is of one name.
async fn follow(
    pusher: Pusher,
    mut requests: Streaming<DiscoveryRequest>,
    responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) -> Option<()> {
    let first = requests.message().await.ok()??;
    let name = first.resource_names.first()?.clone();
    let line = pusher.line(&name)?;
    let mut content = line.content.subscribe();
    content.mark_changed();
    loop {
        tokio::select! {
            changed = content.changed() => {
                changed.ok()?;
                let (version, now) = content.borrow_and_update().clone();
                responses.send(Ok(response(&name, version, now))).await.ok()?;
            }
            request = requests.message() => {
                let request = request.ok()??;
                let verdict = request.error_detail.map_or(Verdict::Ack, |error| Verdict::Nack(error.message));
                line.verdict.send_replace((request.response_nonce.parse().ok()?, verdict));
            }
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Pusher {
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (sender, responses) = mpsc::channel(1);
        tokio::spawn(follow(self.clone(), request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("state of the world only"))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("streams only"))
    }
}
