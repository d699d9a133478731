//! An identity of the server itself: issued and renewed like any other, and given to no caller.

use std::sync::Arc;

use tokio::sync::watch;

use super::view::Shown;
use crate::identity::{Selector, SelectorSet, SpiffeId, X509Svid};
use crate::registration::{Entry, EntryId};

/// Follows an identity of the server itself. While it lives, the identity is renewed.
#[derive(Debug)]
pub struct OwnIdentity(watch::Receiver<Shown>);

impl OwnIdentity {
    pub(super) fn new(view: watch::Receiver<Shown>) -> Self {
        Self(view)
    }

    /// The SVID that is valid now; `None` before the first, and after a failure to renew that outlasted it.
    #[must_use]
    pub fn svid(&self) -> Option<Arc<X509Svid>> {
        let shown = self.0.borrow();
        shown.update.as_ref()?.identities.first().map(|identity| identity.svid.clone())
    }

    /// Waits for a change; false when there will be none any more: the server is shutting down. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// No document can declare a profile of this name: our own keys are of the type that every TLS library takes, whatever
/// an operator makes of the default profile.
const PROFILE: &str = "(the server itself)";

/// The entry of an identity of ours. No file can give its selector: no attestor is called so.
pub(super) fn entry(spiffe_id: SpiffeId, dns_names: Vec<String>) -> Entry {
    let selectors = SelectorSet::from([Selector::new("countersign", "self", spiffe_id.path())]);
    Entry {
        id: EntryId::of(&spiffe_id, &selectors),
        spiffe_id,
        selectors,
        remote: false,
        dns_names,
        profile: Some(PROFILE.to_owned()),
        peers: Vec::new(),
        hint: None,
        source: "(the server itself)".into(),
    }
}
