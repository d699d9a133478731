//! Views: made for callers, changed with the entries, shown when their identities change.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::State;
use crate::clock::Timestamp;
use crate::identity::{Selector, SelectorSet, SpiffeId, WorkloadUpdate};
use crate::node::cache::Cache;
use crate::node::slot::Spec;
use crate::node::view::{Shown, View, ViewId, compose, same};
use crate::registration::{Entry, EntryIndex, Needs};

/// Up to so many changed entries, only the views that one of them touches are matched anew.
const FEW: usize = 64;

impl State {
    /// The view of callers with `selectors`, made if there is none.
    pub(super) fn view(
        &mut self,
        selectors: Arc<SelectorSet>,
        cache: &Cache,
        now: Timestamp,
    ) -> watch::Receiver<Shown> {
        if let Some(known) = self.known.find(&selectors) {
            return known;
        }
        let id = ViewId(self.next_view);
        self.next_view += 1;
        let (sender, receiver) = watch::channel(Shown::default());
        let view = View {
            selectors,
            entries: Vec::new(),
            specs: Vec::new(),
            needs: Default::default(),
            reach: Arc::default(),
            sender,
        };
        self.views.insert(id, view);
        self.rematch(id, cache, now);
        self.publish(BTreeSet::from([id]), now);
        // Once it shows what there is: whoever finds it is as well off as who asked.
        if let Some(view) = self.views.get(&id) {
            self.known.add(view.selectors.clone(), view.sender.clone());
        }
        receiver
    }

    /// Matches the views anew under `index` and says which identities nobody asks for any more.
    pub(in crate::node::engine) fn entries_changed(
        &mut self,
        index: Arc<EntryIndex>,
        cache: &Cache,
        now: Timestamp,
    ) -> Vec<Spec> {
        let before = std::mem::replace(&mut self.index, index);
        let changed = changed_entries(&before, &self.index);
        // Who may call whom hangs on the peers of an entry that the caller itself does not match.
        let peers: BTreeSet<&SpiffeId> = changed.iter().flat_map(|(entry, _)| &entry.peers).collect();
        let bundles =
            before.federated().iter().map(Arc::as_ptr).ne(self.index.federated().iter().map(Arc::as_ptr));
        let touched = |view: &View| {
            bundles
                || changed.len() > FEW
                || changed.iter().any(|(entry, _)| touches(entry, &view.selectors))
                || view.entries.iter().any(|entry| peers.contains(&entry.spiffe_id))
        };
        let ids: Vec<ViewId> =
            self.views.iter().filter(|(_, view)| touched(view)).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.rematch(*id, cache, now));
        let gone = self.drop_unwanted(&changed);
        self.publish(ids.into_iter().collect(), now);
        gone
    }

    /// Finds the entries of a view and the identities that it uses.
    fn rematch(&mut self, id: ViewId, cache: &Cache, now: Timestamp) {
        let Some(view) = self.views.get_mut(&id) else { return };
        let mut entries = self.index.matching(&view.selectors);
        entries.extend(self.own.iter().filter(|own| own.selectors.is_subset(&view.selectors)).cloned());
        let needs = self.index.needs(&without_costly(&view.selectors));
        view.needs = needs.of_callers_with(&view.selectors);
        view.entries.clone_from(&entries);
        let specs: Vec<Spec> = entries.iter().map(|entry| Spec::of(entry, &self.index)).collect();
        let before = std::mem::replace(&mut view.specs, specs.clone());
        let used: BTreeSet<&Spec> = specs.iter().collect();
        let released: BTreeSet<Spec> = before.into_iter().filter(|spec| !used.contains(spec)).collect();
        released.iter().for_each(|spec| self.release(spec, id));
        entries.iter().zip(&specs).for_each(|(entry, spec)| self.want(entry, spec, id, cache, now));
        self.reach(id);
    }

    /// Shows what changed in `ids`. An update that says the same as the last one is not shown again.
    pub(in crate::node::engine) fn publish(&self, ids: BTreeSet<ViewId>, now: Timestamp) {
        for view in ids.iter().filter_map(|id| self.views.get(id)) {
            let update = self.update(view, now).map(Arc::new);
            view.sender.send_if_modified(|shown| {
                let kept = match (&update, &shown.update) {
                    (Some(new), Some(old)) => same(new, old),
                    (None, _) => true, // still undecided: what was shown stays
                    (Some(_), None) => false,
                };
                if kept && shown.needs == view.needs {
                    return false;
                }
                let update = if kept { shown.update.clone() } else { update };
                *shown = Shown { update, needs: view.needs };
                true
            });
        }
    }

    /// The update of a view; `None` while nothing was shown yet and an identity is undecided.
    fn update(&self, view: &View, now: Timestamp) -> Option<WorkloadUpdate> {
        let slots = || view.entries.iter().zip(view.specs.iter().map(|spec| self.slots.get(spec)));
        let undecided = slots().any(|(_, slot)| slot.is_some_and(|slot| slot.undecided(now)));
        if undecided && view.sender.borrow().update.is_none() {
            return None;
        }
        let shown = view.sender.borrow();
        // An entry that now asks for another SVID (other DNS names, another profile) takes no valid one away: the one shown stays
        // until its successor is there.
        let before = |entry: &Entry| {
            let mut identities = shown.update.iter().flat_map(|update| &update.identities);
            identities
                .find(|identity| identity.svid.spiffe_id == entry.spiffe_id)
                .map(|identity| &identity.svid)
                .filter(|svid| svid.not_after > now)
        };
        let svids = slots().map(|(entry, slot)| {
            (entry, slot.and_then(|slot| slot.valid(now)?.x509()).or_else(|| before(entry)))
        });
        Some(compose(svids, &self.bundle, &view.reach))
    }

    /// Drops the views that nobody looks at. Their SVIDs stay until they expire, for those who return.
    pub(in crate::node::engine) fn sweep(&mut self, now: Timestamp) {
        let idle: Vec<ViewId> = self
            .views
            .iter()
            .filter(|(_, view)| view.sender.receiver_count() == 0 && self.known.forget_idle(&view.selectors))
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            let Some(view) = self.views.remove(&id) else { continue };
            view.specs.iter().for_each(|spec| self.release(spec, id));
        }
        self.sweep_tokens(now);
        metrics::gauge!("countersign_node_views").set(self.views.len() as f64);
        metrics::gauge!("countersign_node_identities").set(self.x509().count() as f64);
        let served = self.x509().map(|(_, slot)| slot).filter(|slot| !slot.views.is_empty());
        let first = served.filter_map(|slot| Some(slot.held.as_ref()?.svid.not_after())).min();
        // 0 while nobody is served.
        metrics::gauge!("countersign_served_not_after_timestamp_seconds")
            .set(first.map_or(0, Timestamp::unix_seconds) as f64);
    }
}

/// Entries that are in one of the two and not, or not the same or not under the same terms, in the other, and what
/// they ask for there. Both are sorted alike.
fn changed_entries(before: &EntryIndex, after: &EntryIndex) -> Vec<(Arc<Entry>, Spec)> {
    let profiles_changed = before.profiles().ne(after.profiles());
    let same = |a: &Arc<Entry>, b: &Arc<Entry>| {
        (Arc::ptr_eq(a, b) || a == b) && (!profiles_changed || before.terms(a) == after.terms(b))
    };
    let (mut old, mut new) = (before.entries().peekable(), after.entries().peekable());
    let mut changed = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changed,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ordering::Equal, // of a file that did not change
            (Some(a), Some(b)) => (&a.spiffe_id, &a.id).cmp(&(&b.spiffe_id, &b.id)),
        };
        let gone = if order.is_le() { old.next() } else { None };
        let come = if order.is_ge() { new.next() } else { None };
        if gone.zip(come).is_none_or(|(a, b)| !same(a, b)) {
            changed.extend(gone.map(|entry| (entry.clone(), Spec::of(entry, before))));
            changed.extend(come.map(|entry| (entry.clone(), Spec::of(entry, after))));
        }
    }
}

/// Whether `entry` could matter to a caller with `selectors`: all match but those that are only looked
/// at when an entry asks.
fn touches(entry: &Entry, selectors: &SelectorSet) -> bool {
    entry.selectors.iter().all(|selector| is_costly(selector) || selectors.contains(selector))
}

fn without_costly(selectors: &SelectorSet) -> SelectorSet {
    selectors.iter().filter(|selector| !is_costly(selector)).cloned().collect()
}

/// Such selectors are not looked for unless an entry asks.
fn is_costly(selector: &Selector) -> bool {
    !Needs::of(selector).is_none()
}
