//! What every caller with the same selectors sees: its entries and their SVIDs, as one update.

use std::sync::Arc;

use tokio::sync::watch;

use super::slot::Spec;
use crate::identity::{Identity, Reach, SelectorSet, TrustBundle, WorkloadUpdate, X509Svid};
use crate::registration::{Entry, Needs};

/// Numbers a view within its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ViewId(pub(super) u64);

/// What a view shows.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// `None` until the first answer of each of its identities, good or bad, is in.
    pub(super) update: Option<Arc<WorkloadUpdate>>,
    /// What must be known of the caller's executable for its selectors to be complete.
    pub(super) needs: Needs,
}

/// The engine's side of a view.
#[derive(Debug)]
pub(super) struct View {
    pub(super) selectors: Arc<SelectorSet>,
    pub(super) entries: Vec<Arc<Entry>>,
    /// What each of the entries asks for.
    pub(super) specs: Vec<Spec>,
    pub(super) needs: Needs,
    pub(super) reach: Arc<Reach>,
    pub(super) sender: watch::Sender<Shown>,
}

/// The update for `entries` (sorted by SPIFFE ID) with the SVIDs there are. Of entries with the same
/// SPIFFE ID the first speaks: a caller has an identity once.
pub(super) fn compose<'a>(
    entries: impl Iterator<Item = (&'a Arc<Entry>, Option<&'a Arc<X509Svid>>)>,
    bundle: &Arc<TrustBundle>,
    reach: &Arc<Reach>,
) -> WorkloadUpdate {
    let mut identities: Vec<Identity> = Vec::new();
    let mut entitled = false;
    for (entry, svid) in entries {
        entitled = true;
        let Some(svid) = svid else { continue };
        if identities.last().is_none_or(|last| last.svid.spiffe_id != svid.spiffe_id) {
            identities.push(Identity { svid: svid.clone(), hint: entry.hint.clone() });
        }
    }
    WorkloadUpdate {
        identities,
        bundle: entitled.then(|| bundle.clone()),
        reach: reach.clone(),
        ..WorkloadUpdate::default()
    }
}

/// Whether two updates say the same.
pub(super) fn same(a: &WorkloadUpdate, b: &WorkloadUpdate) -> bool {
    let bundles = match (&a.bundle, &b.bundle) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    };
    bundles
        && Arc::ptr_eq(&a.reach, &b.reach)
        && a.identities.len() == b.identities.len()
        && a.identities
            .iter()
            .zip(&b.identities)
            .all(|(a, b)| Arc::ptr_eq(&a.svid, &b.svid) && a.hint == b.hint)
}
