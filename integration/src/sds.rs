//! A client of SDS: asks for one secret as Envoy does, to hold an SVID in a test's own hands.

use std::path::Path;

use anyhow::{Context, Result};
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{DataSource, Node};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::UnixStream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::http;
use crate::stranger::Credential;

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The SVID served to this process under `name`.
///
/// # Errors
/// None comes, or it cannot be read.
pub async fn svid(socket: &Path, name: &str) -> Result<Credential> {
    svid_over(connect(socket).await?, name).await
}

/// The SVID served under `name` to whoever opened `channel`.
///
/// # Errors
/// None comes, or it cannot be read.
pub async fn svid_over(channel: Channel, name: &str) -> Result<Credential> {
    let Some(Type::TlsCertificate(certificate)) = first(channel, name).await?.r#type else {
        anyhow::bail!("{name} is no certificate");
    };
    let chain = CertificateDer::pem_slice_iter(&bytes(certificate.certificate_chain)?)
        .collect::<Result<Vec<_>, _>>()
        .context("the chain is not PEM")?;
    let key =
        PrivateKeyDer::from_pem_slice(&bytes(certificate.private_key)?).context("the key is not PEM")?;
    Ok(Credential { chain, key })
}

/// The secret served to this process under `name`.
///
/// # Errors
/// None comes.
pub async fn secret(socket: &Path, name: &str) -> Result<Secret> {
    first(connect(socket).await?, name).await
}

/// The first secret of that name, over a stream of its own.
async fn first(channel: Channel, name: &str) -> Result<Secret> {
    let mut client = SecretDiscoveryServiceClient::new(channel);
    let request = DiscoveryRequest {
        node: Some(Node { id: "a test".into(), ..Node::default() }),
        resource_names: vec![name.into()],
        type_url: SECRET.into(),
        ..DiscoveryRequest::default()
    };
    // The stream stays open behind the request: closing it first would mean that the client left. With the answer it
    // is closed, and the connection with it.
    let (open, closed) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::once(request).chain(ReceiverStream::new(closed));
    let mut answers = client.stream_secrets(requests).await?.into_inner();
    let answer = tokio::time::timeout(http::PATIENCE, answers.message())
        .await
        .with_context(|| format!("no {name} came"))??
        .context("the stream ended")?;
    drop(open);
    let resource = answer.resources.first().context("an empty answer")?;
    Ok(Secret::decode(resource.value.as_slice())?)
}

/// Follows `names` over one delta stream, and tells of each whenever it comes (`true`) or is found not to be there.
///
/// # Errors
/// The stream ends, which is what ends it.
pub async fn follow(socket: &Path, names: &[&str], mut tell: impl FnMut(&str, bool)) -> Result<()> {
    let mut client = SecretDiscoveryServiceClient::new(connect(socket).await?);
    let request = DeltaDiscoveryRequest {
        node: Some(Node { id: "a test".into(), ..Node::default() }),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        type_url: SECRET.into(),
        ..DeltaDiscoveryRequest::default()
    };
    let (sender, requests) = tokio::sync::mpsc::channel(8);
    sender.send(request).await?;
    let requests = ReceiverStream::new(requests);
    let mut answers = client.delta_secrets(requests).await?.into_inner();
    loop {
        let answer = answers.message().await?.context("the server ended the stream")?;
        answer.resources.iter().for_each(|resource| tell(&resource.name, true));
        answer.removed_resources.iter().for_each(|name| tell(name, false));
        let ack = DeltaDiscoveryRequest {
            type_url: SECRET.into(),
            response_nonce: answer.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        sender.send(ack).await?;
    }
}

/// A channel to the socket.
///
/// # Errors
/// Nobody listens there.
pub async fn connect(socket: &Path) -> Result<Channel> {
    let socket = socket.to_path_buf();
    let dial = service_fn(move |_| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(dialled(&socket).await?)) }
    });
    // The name is never looked up: the connector goes to the socket.
    Endpoint::from_static("http://sds")
        .connect_with_connector(dial)
        .await
        .context("connect to the SDS socket")
}

/// Waits while the server's backlog is full, as every client must.
///
/// # Errors
/// Nobody listens there.
pub async fn dialled(socket: &Path) -> std::io::Result<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            stream => return stream,
        }
    }
}

fn bytes(source: Option<DataSource>) -> Result<Vec<u8>> {
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes),
        Some(Specifier::InlineString(text)) => Ok(text.into_bytes()),
        _ => anyhow::bail!("the secret is not inline"),
    }
}
