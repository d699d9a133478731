//! The X.509 profile: what a caller holds, as the messages of the standard. Workload API §5.

use std::collections::HashSet;

use rustls::pki_types::CertificateDer;
use spiffe_bridge::identity::{TrustBundle, WorkloadUpdate};
use zeroize::Zeroize as _;

use super::message::Message;
use crate::proto::workload::{X509BundlesResponse, X509svid, X509svidResponse};

/// Its SVIDs in the order of [`WorkloadUpdate`], which is by SPIFFE ID: the default identity stays the first over
/// renewals and restarts (WA-42). `None` if it has none.
pub(super) fn svids(update: &WorkloadUpdate) -> Option<Message> {
    let bundle = roots(update.bundle.as_ref()?);
    let mut hints = HashSet::new();
    let svids = update.identities.iter().map(|identity| X509svid {
        spiffe_id: identity.svid.spiffe_id.to_string(),
        x509_svid: der(&identity.svid.chain), // WA-18: leaf first
        x509_svid_key: identity.svid.key.expose_pkcs8().to_vec(), // WA-19: wiped below
        bundle: bundle.clone(),
        // A hint names one identity of a response (WA-14): the first that has it keeps it.
        hint: identity.hint.as_deref().filter(|hint| hints.insert(*hint)).unwrap_or_default().to_owned(),
    });
    let svids: Vec<_> = svids.collect();
    if svids.is_empty() {
        return None;
    }
    let federated = rooted(update).filter(|(own, _)| !own);
    let federated_bundles = federated.map(|(_, bundle)| (name_of(bundle), roots(bundle))).collect();
    let mut response = X509svidResponse { svids, crl: crls(update), federated_bundles };
    let message = Message::of(&response);
    response.svids.iter_mut().for_each(|svid| svid.x509_svid_key.zeroize());
    Some(message)
}

/// The roots of every trust domain that it may trust, its own included (WA-20). `None` for a caller without an entry.
pub(super) fn all_bundles(update: &WorkloadUpdate) -> Option<Message> {
    update.bundle.as_ref()?;
    let bundles = rooted(update).map(|(_, bundle)| (name_of(bundle), roots(bundle))).collect();
    Some(Message::of(&X509BundlesResponse { crl: crls(update), bundles }))
}

/// Each bundle that it may trust, and whether it is our own.
pub(super) fn bundles(update: &WorkloadUpdate) -> impl Iterator<Item = (bool, &TrustBundle)> {
    let own = update.bundle.iter().map(|bundle| (true, &**bundle));
    let ours = update.bundle.as_ref().map(|bundle| &bundle.trust_domain);
    let all = update.reach.all.iter().flat_map(|all| &all.bundles);
    let foreign = all.filter(move |bundle| Some(&bundle.trust_domain) != ours);
    own.chain(foreign.map(|bundle| (false, &**bundle)))
}

/// Those that have roots: of the others no X509-SVID is trusted, and they are not named.
fn rooted(update: &WorkloadUpdate) -> impl Iterator<Item = (bool, &TrustBundle)> {
    bundles(update).filter(|(_, bundle)| !bundle.roots.is_empty())
}

/// The SPIFFE ID of its trust domain.
pub(super) fn name_of(bundle: &TrustBundle) -> String {
    format!("spiffe://{}", bundle.trust_domain.as_str())
}

/// Those of every trust domain that it may trust, each with its issuer's name.
fn crls(update: &WorkloadUpdate) -> Vec<Vec<u8>> {
    bundles(update).flat_map(|(_, bundle)| &bundle.crls).map(|crl| crl.to_vec()).collect()
}

fn roots(bundle: &TrustBundle) -> Vec<u8> {
    der(&bundle.roots)
}

/// One behind the other.
fn der(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    certificates.iter().flat_map(|certificate| certificate.iter().copied()).collect()
}
