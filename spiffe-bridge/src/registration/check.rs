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
    /// What would be refused, by file and line.
    pub faults: Vec<Fault>,
}

/// Reads the entry files in `path` as a server of `trust_domain` would that never saw them before.
#[must_use]
pub fn check_directory(path: &Path, trust_domain: &TrustDomain) -> Report {
    match Scanner::new(path.to_owned(), trust_domain.clone()).scan() {
        Ok(found) => {
            let files = found.len();
            let (accepted, faults) = decide::resolve(&BTreeMap::new(), &found);
            Report { files, entries: accepted.into_values().flatten().collect(), faults }
        }
        Err(error) => Report { files: 0, entries: Vec::new(), faults: vec![error.as_fault()] },
    }
}
