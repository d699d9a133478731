//! Who may talk to whom, for the callers of one view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::State;
use crate::identity::{Admitted, Memo, Reach, SpiffeId, Trust, TrustBundle};
use crate::node::view::ViewId;

impl State {
    /// Finds out anew whom a view may talk to. What says the same as before stays the same value, with its revision.
    pub(super) fn reach(&mut self, id: ViewId) {
        let Some(view) = self.views.get(&id) else { return };
        let before = &view.reach;
        let mut callers: BTreeMap<&SpiffeId, BTreeSet<&SpiffeId>> = BTreeMap::new();
        for entry in &view.entries {
            callers.entry(&entry.spiffe_id).or_default().extend(&entry.peers);
        }
        let mut upstreams: BTreeMap<&str, BTreeSet<&SpiffeId>> = BTreeMap::new();
        for entry in callers.keys().flat_map(|own| self.index.callable_by(own)) {
            for name in &entry.dns_names {
                upstreams.entry(name).or_default().insert(&entry.spiffe_id);
            }
        }
        let mut own_names: BTreeMap<Arc<str>, SpiffeId> = BTreeMap::new();
        // Of entries with one SPIFFE ID the first speaks: the SVID has its names.
        for entries in view.entries.chunk_by(|a, b| a.spiffe_id == b.spiffe_id) {
            for (entry, name) in entries.iter().take(1).flat_map(|e| e.dns_names.iter().map(move |n| (e, n)))
            {
                own_names.entry(name.as_str().into()).or_insert_with(|| entry.spiffe_id.clone());
            }
        }
        let reach = Reach {
            own_names,
            all: (!view.entries.is_empty()).then(|| self.trust(None, before.all.as_ref())),
            callers: callers
                .into_iter()
                .map(|(own, ids)| (own.clone(), self.trust(Some(ids), before.callers.get(own))))
                .collect(),
            upstreams: upstreams
                .into_iter()
                .map(|(name, ids)| (name.into(), self.trust(Some(ids), before.upstreams.get(name))))
                .collect(),
        };
        if !same(&reach, before)
            && let Some(view) = self.views.get_mut(&id)
        {
            view.reach = Arc::new(reach);
        }
    }

    /// The roots for `ids`, or for everybody: `before` itself if it says the same.
    fn trust(&self, ids: Option<BTreeSet<&SpiffeId>>, before: Option<&Arc<Trust>>) -> Arc<Trust> {
        let mut bundles: Vec<&Arc<TrustBundle>> =
            self.index.federated().iter().chain(std::iter::once(&self.bundle)).collect();
        bundles.sort_by(|a, b| a.trust_domain.cmp(&b.trust_domain));
        let admitted = match ids {
            None => Admitted::Everybody,
            Some(ids) => {
                // Our own roots are always there: without one Envoy would refuse the secret, or fail open.
                let of_one = |bundle: &&Arc<TrustBundle>| {
                    Arc::ptr_eq(bundle, &self.bundle)
                        || ids.iter().any(|id| *id.trust_domain() == bundle.trust_domain)
                };
                bundles.retain(of_one);
                Admitted::Only(ids.into_iter().cloned().collect())
            }
        };
        let bundles: Vec<_> = bundles.into_iter().cloned().collect();
        let newest = bundles.iter().map(|bundle| bundle.version.revision).max().unwrap_or_default();
        let revision = newest.max(self.index.revision());
        let trust = Trust { bundles, admitted, revision, memo: Memo::default() };
        before.filter(|before| before.says_same(&trust)).cloned().unwrap_or_else(|| Arc::new(trust))
    }
}

/// Whether both hold the very same values.
fn same(a: &Reach, b: &Reach) -> bool {
    fn pointers<'t>(trusts: impl Iterator<Item = &'t Arc<Trust>>) -> impl Iterator<Item = *const Trust> {
        trusts.map(Arc::as_ptr)
    }
    a.own_names == b.own_names
        && pointers(a.all.iter()).eq(pointers(b.all.iter()))
        && a.callers.keys().eq(b.callers.keys())
        && pointers(a.callers.values()).eq(pointers(b.callers.values()))
        && a.upstreams.keys().eq(b.upstreams.keys())
        && pointers(a.upstreams.values()).eq(pointers(b.upstreams.values()))
}
