//! All that one caller holds at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Memo, Revision, SpiffeId, TokenSvid, TrustBundle, X509Svid};

/// One identity of a caller: an SVID and the hint of the entry that gave it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The credential, shared by every caller that has the same identity.
    pub svid: Arc<X509Svid>,
    /// What the entry says this identity is for. Workload API §5.2.1.
    pub hint: Option<Arc<str>>,
}

/// Everything that a caller may have, whole: each update replaces the one before.
#[derive(Debug, Clone, Default)]
pub struct WorkloadUpdate {
    /// Sorted by SPIFFE ID; the first is the default identity. Empty for a caller without an entry,
    /// and while the first SVID is still being signed.
    pub identities: Vec<Identity>,
    /// The trust bundle of our own domain; `None` if no entry matches the caller, who is then not
    /// entitled to anything.
    pub bundle: Option<Arc<TrustBundle>>,
    /// Whom it may trust beyond its own domain, and who may talk to whom.
    pub reach: Arc<Reach>,
    /// JWT-SVIDs of the default identity, by the audience that a stream of the connection asks for. Where none does, none.
    pub jwt_svids: BTreeMap<Arc<str>, Arc<TokenSvid>>,
    /// The WIT-SVIDs of the identities, if a stream of the connection asks for them.
    pub wit_svids: BTreeMap<SpiffeId, Arc<TokenSvid>>,
    /// What others derived from it.
    pub memo: Memo,
}

/// Whom a caller may talk to. Empty for a caller without an entry.
#[derive(Debug, Default)]
pub struct Reach {
    /// Every trust domain whose bundle there is, for whoever decides by other means who may talk.
    pub all: Option<Arc<Trust>>,
    /// Who may call it, by its own identity. One for each identity that its entries give, with or without an SVID.
    pub callers: BTreeMap<SpiffeId, Arc<Trust>>,
    /// Which of its own identities has a DNS name; of several, the first by SPIFFE ID.
    pub own_names: BTreeMap<Arc<str>, SpiffeId>,
    /// Whom it may call: the workloads that list it among their peers, by their DNS names.
    pub upstreams: BTreeMap<Arc<str>, Arc<Trust>>,
}

/// Roots and who may come under them, one value: neither is ever delivered without the other.
#[derive(Debug)]
pub struct Trust {
    /// By trust domain. Never merged (invariant 9). Those of other domains than the admitted are left out.
    pub bundles: Vec<Arc<TrustBundle>>,
    /// Who may come.
    pub admitted: Admitted,
    /// That of the newest ingredient when this value came to be.
    pub revision: Revision,
    /// What others derived from it.
    pub memo: Memo,
}

/// Who may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Whoever has an SVID under one of the bundles.
    Everybody,
    /// These SPIFFE IDs, sorted. None of them is nobody.
    Only(Vec<SpiffeId>),
}

impl Trust {
    /// Whether both say the same: the same bundles, not only equal ones.
    #[must_use]
    pub fn says_same(&self, other: &Self) -> bool {
        self.admitted == other.admitted
            && self.bundles.len() == other.bundles.len()
            && self.bundles.iter().zip(&other.bundles).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}
