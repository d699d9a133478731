//! What the accept loops of all doors share: they go on after a failure, and say so seldom.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::super::limits::Refused;
use super::super::metrics;
use crate::runtime::{Drain, Seldom};

/// Accepts, again and again.
#[derive(Debug, Default)]
pub(super) struct Accepting(Backoff);

impl Accepting {
    /// The next connection that `accept` gives; `None` once the drain has begun. Cancel safe where `accept` is.
    pub(super) async fn next<T, F>(&mut self, accept: impl Fn() -> F, log: &Logs, drain: &Drain) -> Option<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            let accepted = tokio::select! {
                () = drain.begun() => return None,
                accepted = accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    self.0 = Backoff::default();
                    return Some(accepted);
                }
                Err(error) => {
                    if let Some(pause) = self.0.after(&error) {
                        log.accept_failed(&error);
                        tokio::select! {
                            () = drain.begun() => return None,
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                }
            }
        }
    }
}

/// The pause after an accept that failed.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// None for an error that is the peer's alone. For ours (EMFILE, ENFILE, ENOMEM) the connection stays in
    /// the backlog, and asking again at once would spin.
    pub(super) fn after(&mut self, error: &io::Error) -> Option<Duration> {
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return None;
        }
        self.0 = (self.0 + 1).min(6);
        Some(Duration::from_millis(10 << self.0).min(Duration::from_millis(500)))
    }
}

/// Log lines that callers can cause, each at most once in ten seconds.
#[derive(Debug)]
pub(super) struct Logs {
    refused: Seldom,
    accept: Seldom,
}

impl Default for Logs {
    fn default() -> Self {
        let period = Duration::from_secs(10);
        Self { refused: Seldom::new(period), accept: Seldom::new(period) }
    }
}

impl Logs {
    pub(super) fn refused(&self, reason: Refused, who: impl fmt::Display) {
        metrics::refused(reason);
        if let Some(suppressed) = self.refused.event(Instant::now()) {
            tracing::warn!(%who, suppressed, "connection closed: {reason}");
        }
    }

    pub(super) fn accept_failed(&self, error: &io::Error) {
        if let Some(suppressed) = self.accept.event(Instant::now()) {
            tracing::error!(%error, suppressed, "no connection can be accepted; trying again");
        }
    }
}
