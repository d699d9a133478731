//! Where the list of pods is asked for: HTTPS, a CA, and a token that is read anew each time.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::{StatusCode, Uri};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::pods::Pods;
use crate::attest::http::{Get, HttpError};

/// The longest list: a node has some hundred pods of some ten KiB each.
const MOST_BYTES: usize = 32 << 20;
/// A token has a KiB, a list of CAs some.
const MOST_FILE: u64 = 1 << 20;

/// Who has the list of this node's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// kubelet's `https://NODE:10250/pods`, or the API server's
    /// `https://kubernetes.default.svc/api/v1/pods?fieldSelector=spec.nodeName=NODE`.
    pub url: String,
    /// The service account's token.
    pub token_file: PathBuf,
    /// The CAs that the certificate of `url` must come from, in PEM.
    pub ca_file: PathBuf,
    /// How often a pod that is served is looked at again: its labels may change.
    pub refresh: Duration,
}

#[derive(Debug)]
pub(super) struct Source(Config);

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("{0:?} is not an https URL with a host")]
    Url(String),
    #[error("{0:?} cannot be a certificate's name")]
    Name(String, #[source] InvalidDnsNameError),
    #[error("cannot read {path:?}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0:?} has no CA in PEM that can be used")]
    NoAuthority(PathBuf),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("{0} cannot be reached")]
    Connect(String, #[source] io::Error),
    #[error("{0} does not answer")]
    Http(String, #[source] HttpError),
    #[error(
        "{host} answers 401 Unauthorized: the token in {file:?} is over, was withdrawn or is of another cluster; or kubelet cannot ask the API server"
    )]
    Token { host: String, file: PathBuf },
    #[error(
        "{0} answers {1}: does the token's account have the right to get nodes/pods (nodes/proxy before Kubernetes 1.33), or to list pods?"
    )]
    Status(String, StatusCode),
    #[error("{0} answers what is no list of pods")]
    Form(String, #[source] serde_json::Error),
}

impl Source {
    pub(super) fn new(config: Config) -> Self {
        Self(config)
    }

    pub(super) async fn ask(&self) -> Result<Pods, SourceError> {
        let Config { url, token_file, ca_file, .. } = &self.0;
        let wrong = || SourceError::Url(url.clone());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(wrong)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let authority = uri.authority().ok_or_else(wrong)?.as_str();
        let name =
            ServerName::try_from(bare.to_owned()).map_err(|e| SourceError::Name(bare.to_owned(), e))?;
        // Both are rotated in place: read anew, they are never old.
        let token = Zeroizing::new(String::from_utf8_lossy(&read(token_file)?).trim().to_owned());
        let tls = TlsConnector::from(Arc::new(tls(ca_file)?));
        let failed = |e| SourceError::Connect(authority.to_owned(), e);
        let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await.map_err(failed)?;
        let stream = tls.connect(name, stream).await.map_err(failed)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let get = Get { host: authority, path, bearer: Some(&token), limit: MOST_BYTES };
        let (status, body) =
            get.over(stream).await.map_err(|e| SourceError::Http(authority.to_owned(), e))?;
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(SourceError::Token { host: authority.to_owned(), file: token_file.clone() });
            }
            _ => return Err(SourceError::Status(authority.to_owned(), status)),
        }
        serde_json::from_slice(&body).map_err(|e| SourceError::Form(authority.to_owned(), e))
    }
}

fn tls(ca_file: &Path) -> Result<ClientConfig, SourceError> {
    let mut roots = RootCertStore::empty();
    let pem = read(ca_file)?;
    let (added, _) =
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if added == 0 {
        return Err(SourceError::NoAuthority(ca_file.to_owned()));
    }
    // Named, not the process's default: a library sets none, and finds none.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SourceError::Tls)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let failed = |source| SourceError::File { path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).map_err(failed)?.take(MOST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
