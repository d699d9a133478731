//! Identities: adopted from the cache, issued, renewed, tried again, dropped with their entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::turns::{Admission, Urgency};
use super::{Answer, Issue, IssueError, Slot, Spec, State};
use crate::clock::Timestamp;
use crate::identity::SpiffeId;
use crate::keys::pool::ReadyKeys;
use crate::node::cache::{Cache, Kept};
use crate::node::renewal::{jitter, renew_at, retry_after};
use crate::node::slot::{Credential, Held, Phase};
use crate::node::status::{IdentityStatus, NodeStatus};
use crate::node::view::ViewId;
use crate::registration::Entry;
use crate::x509;

/// The most failing identities that a status lists.
const LISTED: usize = 100;

impl State {
    /// Takes the next issues, at most `room`. Called whenever something may have become due.
    pub(in crate::node::engine) fn take_issues(
        &mut self,
        now: Timestamp,
        room: usize,
        ready: &ReadyKeys,
    ) -> Vec<Issue> {
        self.move_due(now);
        let mut issues = Vec::new();
        while issues.len() < room {
            let is_ready = |key_type| ready.count(key_type) > 0;
            let Some((spec, urgency)) = self.turns.next(self.admission(), is_ready) else { break };
            let Some(slot) = self.slots.get_mut(&spec) else { continue };
            if slot.phase != Phase::ExpectTurn {
                continue;
            }
            slot.phase = Phase::ExpectSignature;
            // Only this task takes: what was counted is there.
            let key = ready.take(spec.terms.key_type);
            let place = match urgency {
                Urgency::Newcomer => self.newcomers.clone().try_acquire_owned().ok(),
                Urgency::Lapsed | Urgency::Renewal => None,
            };
            issues.push(Issue { spiffe_id: slot.spiffe_id.clone(), spec, key, place });
        }
        issues
    }

    /// Newcomers have three quarters of the places in flight: a renewal never waits for them all.
    fn admission(&self) -> Admission {
        if self.newcomers.available_permits() > 0 { Admission::Everybody } else { Admission::Holders }
    }

    /// When the timer is due next.
    pub(in crate::node::engine) fn next_due(&self) -> Option<Timestamp> {
        self.timer.first().map(|(due, _)| *due)
    }

    /// Takes an answer in and says whose views may have changed.
    pub(in crate::node::engine) fn answered(
        &mut self,
        answer: Result<Answer, tokio::task::JoinError>,
        now: Timestamp,
    ) -> BTreeSet<ViewId> {
        let Ok(Answer { spec, result, .. }) = answer else {
            // The task is gone and with it the name of its identity: look at all that are in flight.
            tracing::error!("an issuance ended without an answer");
            let cut = self.slots.iter().filter(|(_, slot)| slot.phase == Phase::ExpectSignature);
            let cut: Vec<Spec> = cut.map(|(spec, _)| spec.clone()).collect();
            return cut.into_iter().flat_map(|spec| self.failed(spec, &IssueError::Cut, now)).collect();
        };
        match result {
            Ok(held) => self.renewed(spec, held),
            Err(error) => self.failed(spec, &error, now),
        }
    }

    fn renewed(&mut self, spec: Spec, held: Held) -> BTreeSet<ViewId> {
        metrics::counter!("countersign_issuances_total", "outcome" => "issued").increment(1);
        // The entry may have gone meanwhile; then nobody asked.
        let Some(slot) = self.slots.get_mut(&spec) else { return BTreeSet::new() };
        tracing::debug!(spiffe_id = %slot.spiffe_id, serial = %held.svid, not_after = %held.svid.not_after(), "SVID issued");
        let due = renew_at(&self.config, held.svid.random(), held.issued, held.svid.not_after());
        slot.show(&held, due);
        slot.held = Some(held);
        slot.phase = Phase::ExpectRenewal;
        slot.failures = 0;
        self.failing.remove(&spec);
        slot.last_error = None;
        let views = slot.views.clone();
        self.set_timer(spec, due);
        views
    }

    fn failed(&mut self, spec: Spec, error: &IssueError, now: Timestamp) -> BTreeSet<ViewId> {
        metrics::counter!("countersign_issuances_total", "outcome" => "failed").increment(1);
        let Some(slot) = self.slots.get_mut(&spec) else { return BTreeSet::new() };
        slot.failures = slot.failures.saturating_add(1);
        self.failing.insert(spec.clone());
        let text = error_chain(error);
        let left = slot.valid(now).map(|svid| svid.not_after().since(now));
        let wait = retry_after(slot.failures, left, jitter());
        tracing::error!(
            spiffe_id = %slot.spiffe_id, error = text, failures = slot.failures, retry_in = ?wait, valid_for = ?left,
            "cannot issue an SVID; what is valid stays in use"
        );
        slot.show_failure(now + wait);
        slot.last_error = Some(text);
        slot.phase = Phase::ExpectRenewal;
        let views = slot.views.clone();
        self.set_timer(spec, now + wait);
        views
    }

    /// The identity of `entry` for `view`: in memory, adopted from the cache, or to be issued.
    pub(super) fn want(&mut self, entry: &Entry, spec: &Spec, view: ViewId, cache: &Cache, now: Timestamp) {
        if !self.slots.contains_key(spec) {
            let kept = cache.load(spec, &entry.spiffe_id).filter(|kept| self.usable(kept, now));
            self.slots.insert(spec.clone(), Slot::new(entry.spiffe_id.clone(), kept.map(Held::from)));
        }
        let Some(slot) = self.slots.get_mut(spec) else { return };
        slot.views.insert(view);
        if slot.phase == Phase::ExpectRenewal && slot.due.is_none() {
            let due = slot.held.as_ref().map_or(now, |held| {
                renew_at(&self.config, held.svid.random(), held.issued, held.svid.not_after())
            });
            self.set_timer(spec.clone(), due);
        }
    }

    /// `view` does not use the identity any more. One that nobody uses is not renewed.
    pub(super) fn release(&mut self, spec: &Spec, view: ViewId) {
        let Some(slot) = self.slots.get_mut(spec) else { return };
        slot.views.remove(&view);
        if slot.views.is_empty()
            && let Some(due) = slot.due.take()
        {
            self.timer.remove(&(due, spec.clone()));
        }
    }

    /// Drops the identities of `changed` entries that no entry asks for any more: their renewal ends
    /// at once. Says which, so that their records can go too.
    pub(super) fn drop_unwanted(&mut self, changed: &[(Arc<Entry>, Spec)]) -> Vec<Spec> {
        let mut gone: BTreeSet<Spec> = changed.iter().map(|(_, spec)| spec.clone()).collect();
        let ids: BTreeSet<&SpiffeId> = changed.iter().map(|(entry, _)| &entry.spiffe_id).collect();
        for entry in ids.into_iter().flat_map(|id| self.index.giving(id)) {
            gone.remove(&Spec::of(entry, &self.index));
        }
        gone.iter().for_each(|spec| self.drop_slot(spec));
        self.drop_tokens_of(changed);
        gone.into_iter().collect()
    }

    pub(super) fn drop_slot(&mut self, spec: &Spec) {
        self.failing.remove(spec);
        if let Some(due) = self.slots.remove(spec).and_then(|slot| slot.due) {
            self.timer.remove(&(due, spec.clone()));
        }
    }

    /// Shows the views of identities that have expired that they did.
    pub(in crate::node::engine) fn expire(&mut self, now: Timestamp) {
        let expired = self.slots.values().filter(|slot| slot.held.is_some() && slot.valid(now).is_none());
        let views: BTreeSet<ViewId> = expired.flat_map(|slot| slot.views.iter().copied()).collect();
        self.publish(views, now);
    }

    fn move_due(&mut self, now: Timestamp) {
        while let Some((due, _)) = self.timer.first()
            && *due <= now
            && let Some((_, spec)) = self.timer.pop_first()
        {
            let Some(slot) = self.slots.get_mut(&spec) else { continue };
            slot.due = None;
            if slot.phase == Phase::ExpectRenewal && slot.is_wanted() {
                slot.phase = Phase::ExpectTurn;
                let urgency = match &slot.held {
                    None => Urgency::Newcomer,
                    Some(_) if slot.valid(now).is_none() => Urgency::Lapsed,
                    Some(_) => Urgency::Renewal,
                };
                self.turns.push(spec, urgency);
            }
        }
    }

    pub(super) fn set_timer(&mut self, spec: Spec, due: Timestamp) {
        let Some(slot) = self.slots.get_mut(&spec) else { return };
        if let Some(old) = slot.due.take() {
            self.timer.remove(&(old, spec.clone()));
        }
        if slot.is_wanted() {
            slot.due = Some(due);
            self.timer.insert((due, spec));
        }
    }

    /// Whether a cached SVID may be served: valid now, and under a root that we still publish.
    fn usable(&self, held: &Kept, now: Timestamp) -> bool {
        held.svid.not_after > now
            && x509::verify::verify(&held.svid.chain, [&*self.bundle], x509::verify::Role::Client, now)
                .is_ok()
    }

    pub(in crate::node::engine) fn status(&self) -> NodeStatus {
        metrics::gauge!("countersign_node_failing_identities").set(self.failing.len() as f64);
        let failing = self.failing.iter().take(LISTED);
        let failing = failing.filter_map(|spec| Some(describe(spec, self.slots.get(spec)?)));
        NodeStatus { identities: self.x509().count(), views: self.views.len(), failing: failing.collect() }
    }

    /// The X509-SVIDs: one an identity.
    pub(super) fn x509(&self) -> impl Iterator<Item = (&Spec, &Slot)> {
        self.slots.iter().filter(|(spec, _)| spec.token.is_none())
    }

    pub(super) fn identities(&self) -> Vec<IdentityStatus> {
        let mut all: Vec<_> = self.x509().map(|(spec, slot)| describe(spec, slot)).collect();
        all.sort_by(|a, b| a.spiffe_id.cmp(&b.spiffe_id));
        all
    }
}

fn describe(spec: &Spec, slot: &Slot) -> IdentityStatus {
    let svid = slot.held.as_ref().map(|held| &held.svid);
    IdentityStatus {
        spiffe_id: slot.spiffe_id.to_string(),
        key_type: spec.terms.key_type,
        serial: svid.and_then(Credential::x509).map(|svid| svid.serial.clone()),
        not_after: svid.map(Credential::not_after),
        next_renewal: slot.due,
        views: slot.views.len(),
        failures: slot.failures,
        last_error: slot.last_error.clone(),
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests;
