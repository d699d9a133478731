//! A directory looked at without serving it: for `config check` and `entries check`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use spiffe::TrustDomain;

use super::Entry;
use super::directory::decide;
use super::directory::scan::Scanner;
use super::document::Fault;

/// What a directory holds, and what is wrong with it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// The files that were looked at.
    pub files: usize,
    /// The entries of the files that are in order, by file.
    pub entries: Vec<Arc<Entry>>,
    /// The other trust domains whose bundles they hold.
    pub trust_domains: Vec<String>,
    /// The profiles that they declare.
    pub profiles: Vec<String>,
    /// What would be refused, by file and line.
    pub faults: Vec<Fault>,
    /// The directory or a file in it, if anybody may write to it.
    pub open_to_all: Option<String>,
}

/// Reads the entry files in `path` as a server of `trust_domain` would that never saw them before.
#[must_use]
pub fn check_directory(path: &Path, trust_domain: &TrustDomain) -> Report {
    let mut scanner = Scanner::new(path.to_owned(), trust_domain.clone());
    let found = scanner.scan();
    let open_to_all = scanner.open_to_all().map(|path| path.display().to_string());
    match found {
        Ok(found) => {
            let files = found.len();
            let (accepted, faults) = decide::resolve(&BTreeMap::new(), &found);
            let (mut entries, mut trust_domains, mut profiles) = (Vec::new(), Vec::new(), Vec::new());
            for form in accepted.into_values() {
                entries.extend(form.entries);
                profiles.extend(form.profiles.iter().map(|profile| profile.name.clone()));
                trust_domains.extend(form.federated.iter().map(|bundle| bundle.trust_domain.to_string()));
            }
            Report { files, entries, trust_domains, profiles, faults, open_to_all }
        }
        Err(error) => {
            let faults = vec![error.as_fault()];
            let (entries, trust_domains, profiles) = Default::default();
            Report { files: 0, entries, trust_domains, profiles, faults, open_to_all }
        }
    }
}
