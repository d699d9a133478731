//! One connection's broker: let in by its X509-SVID, and cut off when that has expired, our roots no longer vouch for it,
//! or no entry gives its identity any more. What it may have itself is nothing: it asks on behalf of others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::end::EndReason;
use super::session::{SessionState, Sessions};
use crate::attest::BrokerPeer;
use crate::clock::{Clock, Seldom, Timestamp};
use crate::identity::{TrustBundle, WorkloadUpdate};
use crate::registration::EntryIndex;
use crate::x509::verify::VerifyError;

/// The task of one broker's connection: it ends with its SVID, its entry, or the connection.
pub struct BrokerTask {
    peer: Arc<BrokerPeer>,
    bundle: watch::Receiver<Arc<TrustBundle>>,
    entries: watch::Receiver<Arc<EntryIndex>>,
    sessions: Sessions,
    clock: Clock,
}

/// A broker can have as many refusals as it has connections.
static LOG: Seldom = Seldom::several(10, Duration::from_secs(10));

impl BrokerTask {
    /// A task that holds `peer` against `bundle` and `entries` as they change.
    #[must_use]
    pub fn new(
        peer: BrokerPeer,
        bundle: watch::Receiver<Arc<TrustBundle>>,
        entries: watch::Receiver<Arc<EntryIndex>>,
        sessions: Sessions,
        clock: Clock,
    ) -> Self {
        Self { peer: Arc::new(peer), bundle, entries, sessions, clock }
    }

    /// Runs until the broker may not be served any more, or the connection is gone. Dropped, it ends the session as a
    /// server does that shuts down.
    pub async fn run(self) {
        let reason = tokio::select! {
            reason = self.serve() => reason,
            () = self.sessions.abandoned() => return,
        };
        tracing::debug!(broker = %self.peer.id(), %reason, "session of a broker ended");
        self.sessions.publish(SessionState::Ended(reason));
    }

    async fn serve(&self) -> EndReason {
        let (mut bundle, mut entries) = (self.bundle.clone(), self.entries.clone());
        loop {
            let newest = bundle.borrow_and_update().clone();
            let until = match self.admit(&newest, &entries.borrow_and_update()) {
                Ok(until) => until,
                Err(reason) => return reason,
            };
            self.publish(newest, until);
            loop {
                tokio::select! {
                    changed = bundle.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return EndReason::Draining,
                    },
                    changed = entries.changed() => {
                        if changed.is_err() {
                            return EndReason::Draining;
                        }
                        if !gives(&entries.borrow_and_update(), &self.peer) {
                            return EndReason::NoEntry;
                        }
                    }
                    () = self.clock.sleep_until(until) => return EndReason::CertificateExpired,
                }
            }
        }
    }

    fn admit(&self, bundle: &TrustBundle, entries: &EntryIndex) -> Result<Timestamp, EndReason> {
        let until = self.peer.verify(bundle, self.clock.now()).map_err(|error| {
            if let Some(suppressed) = LOG.event(Instant::now()) {
                let cause = std::error::Error::source(&error).map(tracing::field::display);
                tracing::warn!(broker = %self.peer.id(), %error, cause, suppressed, "broker not served");
            }
            reason(&error)
        })?;
        if gives(entries, &self.peer) { Ok(until) } else { Err(EndReason::NoEntry) }
    }

    /// Has new calls looked at too, which may come before this task has seen a change.
    fn publish(&self, seen: Arc<TrustBundle>, until: Timestamp) {
        let (bundle, entries) = (self.bundle.clone(), self.entries.clone());
        let (peer, clock) = (self.peer.clone(), self.clock.clone());
        self.sessions.attested(move || {
            let now = clock.now();
            if now >= until {
                return Err(EndReason::CertificateExpired);
            }
            if !gives(&entries.borrow(), &peer) {
                return Err(EndReason::NoEntry);
            }
            let current = bundle.borrow();
            if Arc::ptr_eq(&current, &seen) {
                return Ok(());
            }
            peer.verify(&current, now).map(drop).map_err(|error| reason(&error))
        });
        self.sessions.publish(SessionState::Serving(Arc::new(WorkloadUpdate::default())));
    }
}

/// Whether an entry still gives the identity: an SVID outlives its entry, and who may ask for others must not.
fn gives(entries: &EntryIndex, peer: &BrokerPeer) -> bool {
    entries.giving(peer.id()).next().is_some()
}

fn reason(error: &VerifyError) -> EndReason {
    match error {
        VerifyError::Path(webpki::Error::CertExpired { .. }) => EndReason::CertificateExpired,
        _ => EndReason::CertificateNotTrusted,
    }
}
