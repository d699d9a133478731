//! Calls an address again and again, on kept and on fresh connections, and counts what failed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One connection, as long as the other side keeps it.
    Kept,
    /// A connection for each call.
    Fresh,
}

/// What came of it so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub answered: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

/// Callers at work, stopped on drop.
#[derive(Debug)]
pub struct Load {
    counts: Arc<Counts>,
    stop: watch::Sender<()>,
    callers: JoinSet<()>,
}

impl Load {
    /// One caller a mode, each waiting `pause` between calls (its own cost is not the question).
    #[must_use]
    pub fn start(target: SocketAddr, modes: &[Mode], pause: Duration) -> Self {
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(());
        let mut callers = JoinSet::new();
        for mode in modes {
            callers.spawn(call_on(target, *mode, pause, Arc::clone(&counts), stopped.clone()));
        }
        Self { counts, stop, callers }
    }

    #[must_use]
    pub fn so_far(&self) -> Tally {
        Tally {
            answered: self.counts.answered.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
            first_failure: self.counts.first_failure.lock().ok().and_then(|first| first.clone()),
        }
    }

    /// Lets the calls under way end, and counts them.
    pub async fn stop(mut self) -> Tally {
        self.stop.send_replace(());
        while self.callers.join_next().await.is_some() {}
        self.so_far()
    }
}

async fn call_on(
    target: SocketAddr,
    mode: Mode,
    pause: Duration,
    counts: Arc<Counts>,
    mut stopped: watch::Receiver<()>,
) {
    let mut kept = None;
    loop {
        match tokio::time::timeout(http::PATIENCE, call(target, &mut kept)).await {
            Ok(Ok(())) => {
                counts.answered.fetch_add(1, Ordering::Relaxed);
            }
            failure => {
                kept = None;
                counts.failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut first) = counts.first_failure.lock() {
                    first.get_or_insert_with(|| format!("{mode:?}: {failure:?}"));
                }
            }
        }
        if mode == Mode::Fresh {
            kept = None;
        }
        tokio::select! {
            _ = stopped.changed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One call. A connection that the other side has announced to close is replaced, which is no failure.
async fn call(target: SocketAddr, kept: &mut Option<SendRequest<Empty<Bytes>>>) -> Result<()> {
    let mut usable = None;
    if let Some(mut sender) = kept.take()
        && sender.ready().await.is_ok()
    {
        usable = Some(sender);
    }
    let mut sender = match usable {
        Some(sender) => sender,
        None => {
            let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(target).await?)).await?;
            tokio::spawn(connection);
            sender
        }
    };
    let response = sender.send_request(http::get("/", &[])?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
    *kept = Some(sender);
    Ok(())
}
