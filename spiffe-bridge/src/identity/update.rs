//! All that one caller holds at one moment.

use std::sync::Arc;

use super::{TrustBundle, X509Svid};

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
}
