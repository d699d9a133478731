//! A plain HTTP program: it knows nothing of TLS, SPIFFE or Envoy, and says what headers it got.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the program saw of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub app: String,
    pub xfcc: Vec<String>,
    pub peer: Vec<String>,
}

impl Seen {
    /// # Errors
    /// The body is not this program's.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(body).with_context(|| String::from_utf8_lossy(body).into_owned())?;
        let list = |key: &str| -> Vec<String> {
            let items = value.get(key).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let app = value.get("app").and_then(Value::as_str).context("no app in the answer")?;
        Ok(Self { app: app.into(), xfcc: list("xfcc"), peer: list("peer") })
    }
}

/// The program in this process, stopped on drop.
#[derive(Debug)]
pub struct App(JoinHandle<()>);

impl App {
    /// # Errors
    /// `listen` is taken.
    pub async fn start(name: &str, listen: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        Ok(Self(tokio::spawn(serve(name.to_owned(), listener))))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers for ever.
pub async fn serve(name: String, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let name = name.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&name, &request);
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

fn answer(name: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let all = |header: &str| -> Vec<&str> {
        request.headers().get_all(header).iter().filter_map(|value| value.to_str().ok()).collect()
    };
    let seen =
        json!({ "app": name, "xfcc": all("x-forwarded-client-cert"), "peer": all("x-peer-spiffe-id") });
    Response::new(Full::new(Bytes::from(seen.to_string())))
}
