//! A server of the world outside the mesh: ordinary TLS under a certificate authority of its own, over plain HTTP/1.1.
//! It says what it saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::stranger::uris;

/// A certificate authority as browsers trust them.
pub struct PublicCa(CertifiedIssuer<'static, KeyPair>);

impl PublicCa {
    /// # Errors
    /// No key can be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "public");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its root.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }
}

/// The server, stopped on drop.
#[derive(Debug)]
pub struct Outside(JoinHandle<()>);

impl Outside {
    /// Serves at `listen` with a certificate of `ca` for `name`; callers must show one under `callers` (PEM), if any.
    ///
    /// # Errors
    /// `listen` is taken, or `callers` are no certificates.
    pub async fn start(ca: &PublicCa, name: &str, listen: SocketAddr, callers: Option<&str>) -> Result<Self> {
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &ca.0)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match callers {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(root?)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = builder.with_single_cert(vec![leaf.der().clone()], key)?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        Ok(Self(tokio::spawn(serve(TlsAcceptor::from(Arc::new(config)), listener))))
    }

    /// Ends it; its address is free then.
    pub async fn stop(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(acceptor: TlsAcceptor, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(answer(acceptor.clone(), stream));
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) {
    // A refused handshake is the caller's to report.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let (_, tls) = stream.get_ref();
    let certificate = tls.peer_certificates().and_then(|chain| chain.first());
    let shown = certificate.map_or_else(Vec::new, |leaf| uris(leaf));
    let met = json!({ "server_name": tls.server_name(), "shown": shown });
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = say(&met, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    // A handshake for each call, so that each meets the newest certificate.
    let mut http1 = hyper::server::conn::http1::Builder::new();
    let _ = http1.keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
}

fn say(met: &Value, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let names: Vec<&str> = request.headers().keys().map(http::HeaderName::as_str).collect();
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    let said = json!({ "met": met, "host": host, "headers": names });
    Response::new(Full::new(Bytes::from(said.to_string())))
}
