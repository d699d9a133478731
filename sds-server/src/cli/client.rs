//! Asks the running server over its admin socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// Streams of a large node come to tens of megabytes.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// A rescan of a large directory takes seconds.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Why the server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error(
        "no server is running on {socket:?}: start it with `countersign serve`, \
         or give its data directory with --data"
    )]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// What was named is a file.
    #[error("{socket:?} cannot be: give the server's data directory with --data, not a file")]
    NoDirectory {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is not ours to use.
    #[error("{socket:?} may only be used by root and by the server's own user")]
    Forbidden {
        /// The socket.
        socket: PathBuf,
    },
    /// The system refused.
    #[error("cannot connect to {socket:?}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was too slow.
    #[error("the server did not answer within 2m")]
    TimedOut,
    /// It said that it could not.
    #[error("the server refused ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// It ended the connection, or what it said is not HTTP.
    #[error("the server's answer cannot be read; is it draining?")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What it said is not what we know.
    #[error("the server's answer cannot be understood: are server and CLI of one version?")]
    Unknown(#[source] serde_json::Error),
}

/// The way to one server. A connection is made for each question.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Asks at `socket`.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// GETs `path`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// POSTs `body` to `path`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(Error::Unknown)?;
        self.ask(Method::POST, path, body.into())
    }

    /// Blocks: the CLI asks one thing and ends.
    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::Broken(error.into()))?;
        let answer = runtime.block_on(async {
            let exchange = self.exchange(method, path, body);
            tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| Error::TimedOut)?
        })?;
        serde_json::from_slice(&answer).map_err(Error::Unknown)
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Error::Broken(error.into()))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "countersign")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Error::Broken(error.into()))?;
        let response = sender.send_request(request).await.map_err(|error| Error::Broken(error.into()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(Error::Broken)?;
        driver.abort();
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        #[derive(serde::Deserialize)]
        struct Problem {
            error: String,
        }
        let message = serde_json::from_slice::<Problem>(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |problem| problem.error);
        Err(Error::Refused { status, message })
    }

    fn unreachable(&self, source: io::Error) -> Error {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning { socket },
            io::ErrorKind::NotADirectory => Error::NoDirectory { socket },
            io::ErrorKind::PermissionDenied => Error::Forbidden { socket },
            _ => Error::Connect { socket, source },
        }
    }
}
