//! One connection's caller from the network: let in by its certificate, and cut off when that opens the door no more.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::end::EndReason;
use super::engine::Node;
use super::session::{SessionState, Sessions};
use super::wants::Tokens;
use crate::attest::{RemoteError, RemotePeer, RemoteTrust};
use crate::clock::{Clock, Timestamp};
use crate::registration::Needs;
use crate::roster::HolderKey;

/// The task of one remote connection: it ends with its certificate, the trust in it, or the connection.
pub struct RemoteTask {
    peer: Arc<RemotePeer>,
    trust: watch::Receiver<Arc<RemoteTrust>>,
    node: Node,
    sessions: Sessions,
    clock: Clock,
}

impl RemoteTask {
    /// A task that holds `peer` against `trust` as it changes, and publishes to `sessions` what `node` has for it.
    #[must_use]
    pub fn new(
        peer: RemotePeer,
        trust: watch::Receiver<Arc<RemoteTrust>>,
        node: Node,
        sessions: Sessions,
        clock: Clock,
    ) -> Self {
        sessions.held_by(HolderKey::Remote(peer.name().clone()));
        Self { peer: Arc::new(peer), trust, node, sessions, clock }
    }

    /// Runs until the certificate expires or is trusted no more, or the connection is gone. Dropped, it ends the session
    /// as a server does that shuts down.
    pub async fn run(self) {
        let reason = tokio::select! {
            reason = self.serve() => reason,
            () = self.sessions.abandoned() => return,
        };
        tracing::debug!(address = %self.peer.address(), name = %self.peer.name(), %reason, "remote session ended");
        self.sessions.publish(SessionState::Ended(reason));
    }

    async fn serve(&self) -> EndReason {
        let mut trust = self.trust.clone();
        let mut needs = Needs::default();
        let mut tokens = Tokens::default();
        let mut until = match self.admit(&mut trust) {
            Ok(until) => until,
            Err(reason) => return reason,
        };
        // These keep their places in line over what is published in between.
        let mut expiry = pin!(self.clock.sleep_until(until));
        let mut change = pin!(next_change(trust.clone()));
        loop {
            let selectors = Arc::new(self.peer.selectors(needs));
            let Ok(mut view) = self.node.view(selectors).await else { return EndReason::Draining };
            loop {
                let shown = view.borrow_and_update().clone();
                if !needs.covers(shown.needs) {
                    needs = shown.needs; // An entry came that tells certificates apart by their hash.
                    break;
                }
                if trust.has_changed().unwrap_or(true) || self.clock.now() >= until {
                    match self.admit(&mut trust) {
                        Ok(now) => until = now,
                        Err(reason) => return reason,
                    }
                    expiry.set(self.clock.sleep_until(until));
                    change.set(next_change(trust.clone()));
                }
                if let Some(update) = shown.update {
                    let update = tokens.add_to(update, &self.sessions, &self.node).await;
                    self.sessions.publish(SessionState::Serving(update));
                }
                tokio::select! {
                    () = self.sessions.wants().changed() => {}
                    () = tokens.changed() => {}
                    changed = view.changed() => if changed.is_err() { return EndReason::Draining },
                    // Looked at above, with whatever else came meanwhile.
                    changed = &mut change => if changed.is_err() { return EndReason::Draining },
                    // Looked at above; the clock may have been set back since.
                    () = &mut expiry => expiry.set(self.clock.sleep_until(until)),
                }
            }
        }
    }

    /// Holds the peer against the trust of now, and has new streams held against the same: until when it may be served.
    fn admit(&self, trust: &mut watch::Receiver<Arc<RemoteTrust>>) -> Result<Timestamp, EndReason> {
        let newest = trust.borrow_and_update().clone();
        let until = newest.verify(&self.peer, self.clock.now()).map_err(|error| self.refuse(&error))?;
        let (trust, peer, clock) = (self.trust.clone(), self.peer.clone(), self.clock.clone());
        self.sessions.attested(move || {
            let now = clock.now();
            if now >= until {
                return Err(EndReason::CertificateExpired);
            }
            let current = trust.borrow();
            if Arc::ptr_eq(&current, &newest) {
                return Ok(());
            }
            current.verify(&peer, now).map(drop).map_err(|error| reason(&error))
        });
        Ok(until)
    }

    fn refuse(&self, error: &RemoteError) -> EndReason {
        self.node.refusals().not_served(self.peer.address(), self.peer.name(), error);
        reason(error)
    }
}

/// Returns when `trust` is another than it saw last.
async fn next_change(mut trust: watch::Receiver<Arc<RemoteTrust>>) -> Result<(), watch::error::RecvError> {
    trust.changed().await
}

fn reason(error: &RemoteError) -> EndReason {
    if error.is_expiry() { EndReason::CertificateExpired } else { EndReason::CertificateNotTrusted }
}
