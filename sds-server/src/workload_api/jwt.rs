//! The JWT profile: bundles. Workload API §6.2.2.

use spiffe_bridge::identity::WorkloadUpdate;
use spiffe_bridge::jose::document::{Use, jwk_set};

use super::message::Message;
use super::x509::{bundles, name_of};
use crate::proto::workload::JwtBundlesResponse;

/// The keys that verify JWT-SVIDs, and no others (WA-28): of our own domain always, of another if it has any. `None` for a
/// caller without an entry.
pub(super) fn all_bundles(update: &WorkloadUpdate) -> Option<Message> {
    update.bundle.as_ref()?;
    let verify = bundles(update).filter(|(own, bundle)| *own || !bundle.tokens.jwt.is_empty());
    let named = verify.map(|(_, b)| (name_of(b), jwk_set(&b.tokens.jwt, Use::JwtSvid).into_bytes()));
    Some(Message::of(&JwtBundlesResponse { bundles: named.collect() }))
}
