//! What is accepted of a scan, and when that is too much of a change: plain functions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use spiffe::{SpiffeId, TrustDomain};

use super::profiles;
use super::status::HeldBecause;
use crate::registration::document::{Content, Document, Fault};
use crate::registration::stored::{Form, grant_of};
use crate::registration::{EntryId, FederatedBundle, Terms};

/// The accepted form of each file, by name.
pub(in crate::registration) type Files = BTreeMap<Arc<str>, Form>;

/// What a file was found to hold.
#[derive(Debug, Clone)]
pub(in crate::registration) enum Found {
    Documents(Arc<[Document]>),
    Faulty(Arc<[Fault]>),
}

/// Which file has what: nothing is granted from two files.
#[derive(Default)]
struct Owners {
    entries: HashMap<EntryId, Arc<str>>,
    domains: HashMap<TrustDomain, Arc<str>>,
    profiles: HashMap<String, Arc<str>>,
}

impl Owners {
    fn take(&mut self, form: &Form, file: &Arc<str>) {
        self.entries.extend(form.entries.iter().map(|entry| (entry.id.clone(), file.clone())));
        self.profiles.extend(form.profiles.iter().map(|profile| (profile.name.clone(), file.clone())));
        self.domains.extend(form.federated.iter().map(|bundle| (bundle.trust_domain.clone(), file.clone())));
    }

    /// What of `form` no file before it has.
    fn rest(&self, form: &Form) -> Form {
        let free = |bundle: &&Arc<FederatedBundle>| !self.domains.contains_key(&bundle.trust_domain);
        Form {
            entries: form.entries.iter().filter(|e| !self.entries.contains_key(&e.id)).cloned().collect(),
            federated: form.federated.iter().filter(free).cloned().collect(),
            profiles: form
                .profiles
                .iter()
                .filter(|p| !self.profiles.contains_key(&p.name))
                .cloned()
                .collect(),
        }
    }
}

/// The forms to accept after a scan found `found`, and what is wrong. Files come in the order of their
/// names: the first that has an entry owns it.
pub(in crate::registration) fn resolve(
    accepted: &Files,
    found: &BTreeMap<Arc<str>, Found>,
) -> (Files, Vec<Fault>) {
    // A file that is not taken in may have been the one that declares what another names: again, until nothing more
    // falls out. Each round but the last takes a file out, and one round is the rule.
    let mut waiting = BTreeMap::new();
    loop {
        let (next, mut faults) = round(accepted, found, &waiting);
        let lacking = profiles::lacking(found, &next);
        if lacking.keys().all(|file| waiting.contains_key(file)) {
            faults.extend(waiting.into_values().flatten());
            faults.sort_by(|a, b| a.file.cmp(&b.file));
            return (next, faults);
        }
        waiting.extend(lacking);
    }
}

/// One pass over the files, in which those that are `waiting` keep their last form.
fn round(
    accepted: &Files,
    found: &BTreeMap<Arc<str>, Found>,
    waiting: &BTreeMap<Arc<str>, Vec<Fault>>,
) -> (Files, Vec<Fault>) {
    let mut next = Files::new();
    let mut faults = Vec::new();
    let mut owners = Owners::default();
    // As many as before, mostly.
    owners.entries.reserve(accepted.values().map(|form| form.entries.len()).sum());
    for (file, found) in found {
        let form = match found {
            Found::Documents(_) if waiting.contains_key(file) => None,
            Found::Documents(documents) => fresh(documents, file, &owners).map_err(|f| faults.extend(f)).ok(),
            Found::Faulty(found) => {
                faults.extend(found.iter().cloned());
                None
            }
        };
        // Of the last form, what another file has taken over meanwhile is served from there.
        let form = form.or_else(|| Some(owners.rest(accepted.get(file)?)));
        if let Some(form) = form {
            owners.take(&form, file);
            next.insert(file.clone(), form);
        }
    }
    (next, faults)
}

/// The entries of a file that read well, unless a file before it has one of them.
fn fresh(documents: &[Document], file: &Arc<str>, owners: &Owners) -> Result<Form, Vec<Fault>> {
    let fault = |document: &Document| {
        let (owner, what) = match &document.content {
            Content::Workload(entry) => {
                let what = format!("{} has an entry with these selectors", entry.spiffe_id);
                (owners.entries.get(&entry.id)?, what)
            }
            Content::TrustDomain(bundle) => {
                let what = format!("{} has a bundle", bundle.trust_domain);
                (owners.domains.get(&bundle.trust_domain)?, what)
            }
            Content::Profile(profile) => {
                (owners.profiles.get(&profile.name)?, format!("profile {} is declared", profile.name))
            }
        };
        let message = format!("{what} in {owner} already: remove one");
        Some(Fault { file: file.clone(), line: document.line, column: document.column, message })
    };
    let faults: Vec<_> = documents.iter().filter_map(fault).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut form = Form::default();
    for document in documents {
        match &document.content {
            Content::Workload(entry) => form.entries.push(entry.clone()),
            Content::TrustDomain(bundle) => form.federated.push(bundle.clone()),
            Content::Profile(profile) => form.profiles.push(profile.clone()),
        }
    }
    Ok(form.arranged())
}

/// What a change does to the number of entries and bundles.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::registration) struct Difference {
    pub(super) before: usize,
    pub(super) after: usize,
    /// SPIFFE IDs that have fewer entries than before, once for each entry that they lose.
    pub(super) withdrawn: Vec<SpiffeId>,
    /// The same, for those that have more.
    pub(super) added: Vec<SpiffeId>,
    /// Profiles that are new, other than before, or gone.
    pub(super) profiles: BTreeSet<String>,
}

pub(super) fn compare(before: &Files, after: &Files) -> Difference {
    let mut balance: BTreeMap<SpiffeId, isize> = BTreeMap::new();
    // Files that are the same on both sides cancel out, and are most of them.
    let other = |files: &Files, file: &Arc<str>, form: &Form| files.get(file) != Some(form);
    for (_, form) in before.iter().filter(|(file, form)| other(after, file, form)) {
        form.grants().for_each(|id| *balance.entry(id).or_default() -= 1);
    }
    for (_, form) in after.iter().filter(|(file, form)| other(before, file, form)) {
        form.grants().for_each(|id| *balance.entry(id).or_default() += 1);
    }
    let mut terms: BTreeMap<&String, (Option<Terms>, Option<Terms>)> = BTreeMap::new();
    profiles::declared(before)
        .for_each(|profile| terms.entry(&profile.name).or_default().0 = Some(profile.terms));
    profiles::declared(after)
        .for_each(|profile| terms.entry(&profile.name).or_default().1 = Some(profile.terms));
    let changed = terms.into_iter().filter(|(_, (before, after))| before != after);
    let profiles = changed.map(|(name, _)| name.clone()).collect();
    let count = |files: &Files| files.values().map(|form| form.entries.len() + form.federated.len()).sum();
    let mut difference =
        Difference { before: count(before), after: count(after), profiles, ..Difference::default() };
    for (id, balance) in balance {
        let list = if balance < 0 { &mut difference.withdrawn } else { &mut difference.added };
        list.extend(std::iter::repeat_n(id.clone(), balance.unsigned_abs()));
    }
    difference
}

/// `next` with all that `withdrawn` SPIFFE IDs would lose, in the files where it was accepted. An entry that is
/// there with other selectors is edited and not withdrawn: its old form goes.
pub(super) fn keep(accepted: &Files, mut next: Files, withdrawn: &[SpiffeId]) -> Files {
    let withdrawn: BTreeSet<&SpiffeId> = withdrawn.iter().collect();
    let mut there = Owners::default();
    next.iter().for_each(|(file, form)| there.take(form, file));
    for (file, form) in accepted {
        let Form { entries, federated, .. } = there.rest(form);
        let entries = entries.into_iter().filter(|entry| withdrawn.contains(&entry.spiffe_id));
        let lost = |bundle: &Arc<FederatedBundle>| grant_of(bundle).is_some_and(|id| withdrawn.contains(&id));
        let kept = Form {
            entries: entries.collect(),
            federated: federated.into_iter().filter(lost).collect(),
            profiles: Vec::new(), // those in use are kept by `profiles::keep_in_use`
        };
        if kept != Form::default() {
            let form = next.entry(file.clone()).or_default();
            form.entries.extend(kept.entries);
            form.federated.extend(kept.federated);
            *form = std::mem::take(form).arranged();
        }
    }
    next
}

/// Whether the brake holds a change, where `recent` entries were withdrawn in the minute before.
pub(super) fn brake(difference: &Difference, recent: usize) -> Option<HeldBecause> {
    let withdrawn = difference.withdrawn.len() + recent;
    if difference.withdrawn.is_empty() {
        None
    } else if difference.after == 0 {
        Some(HeldBecause::NothingLeft)
    } else if withdrawn > 1 && withdrawn * 10 > difference.before + recent {
        Some(HeldBecause::TooManyWithdrawn)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brake_holds_what_is_more_than_one_and_more_than_a_tenth() {
        let check = |before: usize, after: usize, recent, expected| {
            let id = SpiffeId::new("spiffe://example.org/a").unwrap();
            let withdrawn = vec![id; before.saturating_sub(after)];
            let difference = Difference { before, after, withdrawn, ..Difference::default() };
            assert_eq!(brake(&difference, recent), expected, "{before} to {after} after {recent}");
        };
        check(0, 0, 0, None);
        check(0, 5, 0, None);
        check(1, 0, 0, Some(HeldBecause::NothingLeft));
        check(2, 1, 0, None);
        check(2, 1, 1, Some(HeldBecause::TooManyWithdrawn));
        check(10, 8, 0, Some(HeldBecause::TooManyWithdrawn));
        check(20, 18, 0, None);
        check(18, 17, 2, Some(HeldBecause::TooManyWithdrawn));
        check(100, 90, 0, None);
        check(100, 89, 0, Some(HeldBecause::TooManyWithdrawn));
    }
}
