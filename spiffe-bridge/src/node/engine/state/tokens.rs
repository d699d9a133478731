//! Tokens: issued and renewed as X509-SVIDs are, for whoever follows them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Slot, Spec, State};
use crate::clock::Timestamp;
use crate::identity::SpiffeId;
use crate::node::renewal::renew_at;
use crate::node::slot::{Credential, Held, Phase};
use crate::node::tokens::{MAX_TOKENS_PER_IDENTITY, TokenRefused, TokenShown, TokenSpec};
use crate::registration::Entry;
use crate::roster::HolderKey;

impl State {
    /// A token to follow, issued if it is not there, unless the identity has too many in use or asks too fast.
    pub(super) fn token(
        &mut self,
        caller: Option<&HolderKey>,
        spiffe_id: &SpiffeId,
        token: TokenSpec,
        now: Timestamp,
    ) -> Result<watch::Receiver<TokenShown>, TokenRefused> {
        let spec = Spec::token(spiffe_id, token);
        if !self.slots.contains_key(&spec) {
            if !self.pace.allows(&spec.spiffe_id, caller, now) {
                return Err(TokenRefused::TooFast);
            }
            self.make_room(&spec.spiffe_id).ok_or(TokenRefused::TooMany)?;
            self.tokens.entry(spec.spiffe_id.clone()).or_default().insert(spec.clone());
            self.slots.insert(spec.clone(), Slot::new(spiffe_id.clone(), None));
        }
        let slot = self.slots.get_mut(&spec).ok_or(TokenRefused::Failed)?;
        if slot.held.is_none() && slot.phase == Phase::ExpectRenewal && slot.due.is_none() {
            slot.followers.send_replace(TokenShown::Undecided);
        }
        let followed = slot.followers.subscribe();
        if slot.phase == Phase::ExpectRenewal && slot.due.is_none() {
            let due = slot.held.as_ref().map_or(now, |held| {
                renew_at(&self.config, held.svid.random(), held.issued, held.svid.not_after())
            });
            self.set_timer(spec, due);
        }
        Ok(followed)
    }

    /// Room for one more token of `spiffe_id`: one that nobody follows goes, if it must be.
    fn make_room(&mut self, spiffe_id: &str) -> Option<()> {
        let tokens = self.tokens.get(spiffe_id).filter(|tokens| tokens.len() >= MAX_TOKENS_PER_IDENTITY);
        let Some(tokens) = tokens else { return Some(()) };
        let idle = tokens.iter().find(|spec| self.slots.get(spec).is_none_or(|slot| !slot.is_wanted()));
        let idle = idle?.clone();
        self.drop_token(&idle);
        Some(())
    }

    fn drop_token(&mut self, spec: &Spec) {
        self.drop_slot(spec);
        if let Some(tokens) = self.tokens.get_mut(&spec.spiffe_id) {
            tokens.remove(spec);
            if tokens.is_empty() {
                self.tokens.remove(&spec.spiffe_id);
            }
        }
    }

    /// Drops the tokens of identities that no entry gives any more: whoever followed them is told that they are gone.
    pub(super) fn drop_tokens_of(&mut self, changed: &[(Arc<Entry>, Spec)]) {
        let ids: BTreeSet<&SpiffeId> = changed.iter().map(|(entry, _)| &entry.spiffe_id).collect();
        for id in ids {
            let is_given = self.index.giving(id).next().is_some();
            let tokens = self.tokens.get(&id.to_string()).filter(|_| !is_given).cloned();
            tokens.into_iter().flatten().for_each(|spec| self.drop_token(&spec));
        }
    }

    /// Forgets tokens that nobody follows once they have expired. Until then they are there for those who return.
    pub(super) fn sweep_tokens(&mut self, now: Timestamp) {
        self.pace.sweep(now);
        let is_over = |spec: &&Spec| {
            self.slots.get(spec).is_none_or(|slot| !slot.is_wanted() && slot.valid(now).is_none())
        };
        let over: Vec<Spec> = self.tokens.values().flatten().filter(is_over).cloned().collect();
        over.iter().for_each(|spec| self.drop_token(spec));
        let count: usize = self.tokens.values().map(BTreeSet::len).sum();
        metrics::gauge!("countersign_node_tokens").set(count as f64);
    }
}

impl Slot {
    /// Tells those who follow it of the newest token, and when the next is due.
    pub(super) fn show(&self, held: &Held, due: Timestamp) {
        if let Credential::Token(svid) = &held.svid {
            self.followers.send_replace(TokenShown::Held(svid.clone(), due));
        }
    }

    /// Tells those who wait that this try failed, and when the next is. What is held stays: a failed renewal takes nothing
    /// away.
    pub(super) fn show_failure(&self, retry: Timestamp) {
        self.followers.send_modify(|shown| {
            *shown = match shown {
                TokenShown::Held(svid, _) => TokenShown::Held(svid.clone(), retry),
                TokenShown::Undecided | TokenShown::Failed => TokenShown::Failed,
            };
        });
    }
}
