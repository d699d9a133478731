//! One HTTP/1.1 request over whatever stream is there.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Nothing on the loopback takes longer, except what hangs.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// # Errors
/// No whole answer came.
pub async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let whole = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends by itself when the sender is dropped.
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        anyhow::Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    };
    tokio::time::timeout(PATIENCE, whole).await.context("no answer")?
}

/// A GET for `path`, with `headers`.
///
/// # Errors
/// A header is malformed.
pub fn get(path: &str, headers: &[(&str, &str)]) -> Result<Request<Empty<Bytes>>> {
    let mut request = Request::get(path).header("host", "countersign.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.body(Empty::new())?)
}

/// # Errors
/// No whole answer came.
pub async fn get_tcp(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Response<Bytes>> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
    exchange(stream, get(path, headers)?).await
}

/// # Errors
/// No whole answer came.
pub async fn get_unix(socket: &Path, path: &str) -> Result<Response<Bytes>> {
    let stream =
        UnixStream::connect(socket).await.with_context(|| format!("connect to {}", socket.display()))?;
    exchange(stream, get(path, &[])?).await
}
