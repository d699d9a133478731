//! The door to the network of a server in a test, and clients that come to it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::ca::Ca;
use crate::ports;
use crate::scratch::Scratch;
use crate::stranger::{self, Credential};

/// Where the door is, and whose certificates open it.
#[derive(Debug)]
pub struct Door {
    pub operator: Ca,
    pub address: SocketAddr,
    /// The file that names the operator's CA to the server.
    pub client_ca: PathBuf,
}

impl Door {
    /// A door for a server under `scratch`, with a CA of its own.
    ///
    /// # Errors
    /// No port is free, or the directory cannot be written.
    pub fn new(scratch: &Scratch) -> Result<Self> {
        let operator = Ca::new("operator", None)?;
        let door =
            Self { operator, address: ports::free()?, client_ca: scratch.path().join("client-ca.pem") };
        door.trust(&[&door.operator])?;
        Ok(door)
    }

    /// Its section of the configuration, to which `more` keys may be added.
    #[must_use]
    pub fn config(&self, more: &str) -> String {
        let (address, client_ca) = (self.address, self.client_ca.display());
        format!("remote: {{listen: '{address}', client_ca: {client_ca}{more}}}\n")
    }

    /// Names `authorities`, and no others, to the server.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn trust(&self, authorities: &[&Ca]) -> Result<()> {
        self.write(&authorities.iter().map(|ca| ca.pem()).collect::<String>())
    }

    /// Writes `text` as the file of the CAs, whole at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, text: &str) -> Result<()> {
        let half = self.client_ca.with_extension("half");
        fs::write(&half, text)?;
        Ok(fs::rename(half, &self.client_ca)?)
    }
}

/// How a client of gRPC shakes hands that shows `credential`, or nothing.
///
/// # Errors
/// The credential cannot be used.
pub fn client(credential: Option<&Credential>) -> Result<ClientConfig> {
    let mut config = stranger::client(credential)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A TLS connection as the client sees it: in TLS 1.3 that is before the server has looked at its certificate.
///
/// # Errors
/// Nobody listens there, or the handshake fails.
pub async fn shake(to: SocketAddr, config: ClientConfig) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
    let name = ServerName::try_from("countersign.test")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// A channel to the door that shows `credential`.
///
/// # Errors
/// It does not open.
pub async fn connect(to: SocketAddr, credential: &Credential) -> Result<Channel> {
    let config = client(Some(credential))?;
    let dial = service_fn(move |_| {
        let config = config.clone();
        async move { shake(to, config).await.map(TokioIo::new).map_err(std::io::Error::other) }
    });
    // The name is never looked up: the connector goes to the address.
    Endpoint::from_static("http://sds").connect_with_connector(dial).await.context("connect to the door")
}

/// The roots that `server` has, as its CLI prints them, in a file.
///
/// # Errors
/// The CLI fails, or the directory cannot be written.
pub fn roots(server: &crate::server::Server, dir: &Path) -> Result<PathBuf> {
    let path = dir.join("roots.pem");
    fs::write(&path, server.cli(&["bundle"])?.stdout)?;
    Ok(path)
}
