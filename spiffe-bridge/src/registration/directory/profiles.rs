//! Profiles that entries name: declared somewhere, and in force for as long as one is named. Plain functions.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::decide::{Files, Found};
use crate::registration::document::{Document, Fault};
use crate::registration::stored::Form;
use crate::registration::{DEFAULT_PROFILE, Profile};

/// The files with entries whose profile nobody declares, and where.
pub(super) fn lacking(found: &BTreeMap<Arc<str>, Found>, next: &Files) -> BTreeMap<Arc<str>, Vec<Fault>> {
    let declared: HashSet<&str> = declared(next).map(|profile| profile.name.as_str()).collect();
    let fault = |file: &Arc<str>, document: &Document| {
        let (line, column) = document.profile_at?;
        let name = document.entry()?.profile.as_deref()?;
        if name == DEFAULT_PROFILE || declared.contains(name) {
            return None;
        }
        let message =
            format!("profile {name:?} is not declared: add a document of kind Profile with that name");
        Some(Fault { file: file.clone(), line, column, message })
    };
    let of_file = |(file, found): (&Arc<str>, &Found)| {
        let Found::Documents(documents) = found else { return None };
        let faults: Vec<_> = documents.iter().filter_map(|document| fault(file, document)).collect();
        (!faults.is_empty()).then(|| (file.clone(), faults))
    };
    found.iter().filter_map(of_file).collect()
}

/// Every profile of `files`.
pub(super) fn declared(files: &Files) -> impl Iterator<Item = &Arc<Profile>> {
    files.values().flat_map(|form| &form.profiles)
}

/// `next` with each profile that its entries name and no file declares any more, in the file where it was accepted:
/// without it they would be issued in another way than the operator said.
pub(super) fn keep_in_use(accepted: &Files, mut next: Files) -> Files {
    let declared: HashSet<&String> = declared(&next).map(|profile| &profile.name).collect();
    let named = next.values().flat_map(|form| &form.entries).filter_map(|entry| entry.profile.as_ref());
    let orphaned: BTreeSet<&String> = named.filter(|name| !declared.contains(name)).collect();
    let kept = |(file, form): (&Arc<str>, &Form)| {
        let kept = form.profiles.iter().filter(|profile| orphaned.contains(&profile.name));
        kept.map(|profile| (file.clone(), profile.clone())).collect::<Vec<_>>()
    };
    let kept: Vec<_> = accepted.iter().flat_map(kept).collect();
    for (file, profile) in kept {
        next.entry(file).or_default().profiles.push(profile);
    }
    next
}
