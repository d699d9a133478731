//! One GET over a connection that is there: small, bounded, and gone with its future.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

/// What is asked.
pub(super) struct Get<'a> {
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    /// Goes into the Authorization header, and is not logged.
    pub(super) bearer: Option<&'a str>,
    /// The longest answer that is read, in bytes.
    pub(super) limit: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the request cannot be written")]
    Request(#[source] hyper::http::Error),
    #[error("no answer in HTTP")]
    Connection(#[source] hyper::Error),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl Get<'_> {
    /// Asks over `io`, which is closed afterwards.
    pub(super) async fn over(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let mut request =
            hyper::Request::get(self.path).header(HOST, self.host).header(ACCEPT, "application/json");
        if let Some(bearer) = self.bearer {
            let text = Zeroizing::new(format!("Bearer {bearer}"));
            let mut value =
                hyper::header::HeaderValue::from_str(&text).map_err(|e| HttpError::Request(e.into()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(HttpError::Request)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(HttpError::Connection)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(HttpError::Connection)?;
            let status = response.status();
            let body = read(response.into_body(), self.limit).await?;
            Ok((status, body))
        };
        tokio::pin!(answer, connection);
        // The connection moves the bytes: a library spawns no task for it.
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ended = &mut connection => answer.await,
        }
    }
}

async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, HttpError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(HttpError::Connection)?;
        let Some(data) = frame.data_ref() else { continue };
        if all.len() + data.len() > limit {
            return Err(HttpError::TooLong(limit));
        }
        all.extend_from_slice(data);
    }
    Ok(all.freeze())
}
