//! The WIT profile, incubating. Workload API §7.

use std::collections::HashSet;

use spiffe_bridge::identity::WorkloadUpdate;
use spiffe_bridge::jose::document::{Use, jwk_set};
use spiffe_bridge::jose::wit_svid::expose_holder_jwk;
use zeroize::Zeroize as _;

use super::feed::Told;
use super::message::Message;
use super::x509::{bundles, name_of};
use crate::proto::workload::{WitBundlesResponse, Witsvid, WitsvidResponse};

/// Its WIT-SVIDs and their keys, all or that of `only`, once all are there.
pub(super) fn svids(update: &WorkloadUpdate, only: &str) -> Told {
    let mut hints = HashSet::new();
    let mut svids = Vec::new();
    for identity in &update.identities {
        let spiffe_id = identity.svid.spiffe_id.to_string();
        if !only.is_empty() && spiffe_id != only {
            continue;
        }
        let Some(svid) = update.wit_svids.get(&identity.svid.spiffe_id) else { return Told::Later };
        let Some(jwk) = expose_holder_jwk(svid) else { return Told::Later };
        svids.push(Witsvid {
            spiffe_id,
            wit_svid: svid.token.expose_text().to_owned(),
            wit_svid_key: jwk.to_string(), // wiped below
            hint: identity.hint.as_deref().filter(|hint| hints.insert(*hint)).unwrap_or_default().to_owned(),
        });
    }
    if svids.is_empty() {
        return Told::Nothing;
    }
    let mut response = WitsvidResponse { svids };
    let message = Message::of(&response);
    for svid in &mut response.svids {
        svid.wit_svid_key.zeroize();
        svid.wit_svid.zeroize();
    }
    Told::Message(message)
}

/// The keys that verify WIT-SVIDs, as those of JWT-SVIDs.
pub(super) fn all_bundles(update: &WorkloadUpdate) -> Option<Message> {
    update.bundle.as_ref()?;
    let verify = bundles(update).filter(|(own, bundle)| *own || !bundle.tokens.wit.is_empty());
    let named = verify.map(|(_, b)| (name_of(b), jwk_set(&b.tokens.wit, Use::WitSvid)));
    Some(Message::of(&WitBundlesResponse { bundles: named.collect() }))
}
