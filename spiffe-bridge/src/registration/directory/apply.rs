//! One pass: scan, decide, write, tell.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spiffe::SpiffeId;

use super::decide::{self, Difference, Files};
use super::profiles;
use super::status::{DirectoryStatus, HeldBack, HeldBecause};
use super::{Brake, Directory};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::registration::document::Fault;
use crate::registration::indexer::IndexError;
use crate::registration::stored;
use crate::store::{Store, StoreError, Transaction, Write};

/// Withdrawals within this time are judged together.
const WINDOW: Duration = Duration::from_secs(60);
/// What one transaction carries: far below the store's limit, one file may be a megabyte.
const TRANSACTION_BYTES: usize = 8 << 20;
/// The SPIFFE IDs that are named in a status or an audit record; the rest are counted.
const NAMED: usize = 20;

/// What the store holds of earlier scans.
pub(super) fn load(store: &Store) -> Result<Files, IndexError> {
    let mut files = Files::new();
    for (key, value) in store.list(stored::PREFIX)? {
        let Some(file) = stored::file_of(&key) else { continue };
        files.insert(file.clone(), stored::decode(&value.value, &file)?);
    }
    Ok(files)
}

impl Directory {
    /// Looks at the whole directory and brings the store to what is accepted of it.
    pub(super) async fn pass(&mut self, brake: Brake) -> Result<(), StoreError> {
        let Some(mut scanner) = self.scanner.take() else { return Ok(()) };
        let scan = tokio::task::spawn_blocking(move || {
            let found = scanner.scan();
            (scanner, found)
        });
        // It can only fail by a panic, which then is ours to pass on.
        let (scanner, found) = match scan.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let open_to_all = scanner.open_to_all().map(|path| path.display().to_string().into());
        self.scanner = Some(scanner);
        let now = self.clock.now();
        self.withdrawn.retain(|(at, _)| now.since(*at) < WINDOW);
        let mut status = DirectoryStatus { last_scan: Some(now), open_to_all, ..DirectoryStatus::default() };
        let faults = match found {
            Ok(found) => {
                status.files = found.len();
                let (next, mut faults) = decide::resolve(&self.accepted, &found);
                let next = profiles::keep_in_use(&self.accepted, next);
                let difference = decide::compare(&self.accepted, &next);
                let recent = self.withdrawn.iter().map(|(_, count)| count).sum();
                let reason = decide::brake(&difference, recent).filter(|_| brake == Brake::On);
                status.held_back = reason.map(|reason| self.hold(reason, &difference, now));
                let (next, difference) = match reason {
                    None => (next, difference),
                    Some(_) => {
                        // What is added or edited does not wait for the operator's word on what is withdrawn.
                        let kept = decide::keep(&self.accepted, next, &difference.withdrawn);
                        let kept = profiles::keep_in_use(&self.accepted, kept);
                        let difference = decide::compare(&self.accepted, &kept);
                        (kept, difference)
                    }
                };
                if let Err(error) = self.accept(next, difference, brake, now).await {
                    if matches!(error, StoreError::Closed) {
                        return Err(error);
                    }
                    faults.push(self.whole(format!("the entries cannot be stored: {error}")));
                }
                faults
            }
            Err(error) => {
                let nothing = Difference::default();
                let reason = HeldBecause::DirectoryUnreadable;
                status.held_back = (!self.accepted.is_empty()).then(|| self.hold(reason, &nothing, now));
                vec![error.as_fault()]
            }
        };
        status.entries = self.accepted.values().map(|form| form.entries.len()).sum();
        status.revision = self.revision;
        status.problems = self.status.borrow().problems_of(faults, now);
        self.publish(status, now);
        Ok(())
    }

    /// Writes what differs. Files come before removals: an entry that moves from one to another is never missing.
    async fn accept(
        &mut self,
        next: Files,
        difference: Difference,
        brake: Brake,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let changed = next.iter().filter(|(file, form)| self.accepted.get(*file) != Some(*form));
        let puts =
            changed.map(|(file, form)| Write::Put { key: stored::key_of(file), value: stored::encode(form) });
        let gone = self.accepted.keys().filter(|file| !next.contains_key(*file));
        let deletes = gone.map(|file| Write::Delete { key: stored::key_of(file) });
        let writes: Vec<_> = puts.chain(deletes).collect();
        if writes.is_empty() {
            return Ok(());
        }
        let event = json!({
            "files": writes.len(), "entries": difference.after, "pruned": brake == Brake::Released,
            "added": difference.added.len(), "added_ids": named(&difference.added),
            "profiles": difference.profiles.iter().take(NAMED).collect::<Vec<_>>(),
            "withdrawn": difference.withdrawn.len(), "withdrawn_ids": named(&difference.withdrawn),
        });
        let event = Event::new("registration.changed", self.path.display().to_string(), event);
        let mut event = Some(event);
        for mut writes in portions(writes) {
            writes.push(Write::Put { key: stored::CHANGED.to_vec(), value: Vec::new() });
            let transaction = Transaction { compares: Vec::new(), writes };
            self.revision = self.log.append_with(event.take(), transaction).await?;
        }
        tracing::info!(
            entries = difference.after,
            added = difference.added.len(),
            withdrawn = difference.withdrawn.len(),
            "entries accepted"
        );
        if !difference.withdrawn.is_empty() && brake == Brake::On {
            self.withdrawn.push((now, difference.withdrawn.len()));
        }
        self.accepted = next;
        Ok(())
    }

    /// What waits for the operator, since the same reason first held.
    fn hold(&self, reason: HeldBecause, difference: &Difference, now: Timestamp) -> HeldBack {
        let last = self.status.borrow();
        let since = last.held_back.as_ref().filter(|h| h.reason == reason).map_or(now, |held| held.since);
        HeldBack {
            reason,
            withdrawn: difference.withdrawn.len(),
            examples: named(&difference.withdrawn),
            since,
        }
    }

    fn whole(&self, message: String) -> Fault {
        Fault { file: self.path.display().to_string().into(), line: 0, column: 0, message }
    }

    /// Logs what is new, once, and makes the status known.
    fn publish(&self, status: DirectoryStatus, now: Timestamp) {
        for problem in status.problems.iter().filter(|problem| problem.since == now) {
            let super::Problem { file, line, column, message, .. } = problem;
            tracing::error!(%file, line, column, message, "entries are kept as they were last accepted");
        }
        if let Some(held) = status.held_back.as_ref().filter(|held| held.since == now) {
            let advice = "check the directory; if it is meant: countersign entries reload --prune";
            tracing::error!(reason = ?held.reason, withdrawn = held.withdrawn, advice, "a removal of entries is held back");
        }
        let before = self.status.borrow().open_to_all.clone();
        if let Some(path) = status.open_to_all.as_ref().filter(|path| before.as_ref() != Some(*path)) {
            let advice = "let only those write who may give identities: chmod o-w";
            tracing::warn!(%path, advice, "anybody may write entries");
        }
        metrics::gauge!("countersign_entry_problems").set(status.problems.len() as f64);
        metrics::gauge!("countersign_entries_held_back").set(if status.held_back.is_some() {
            1.0
        } else {
            0.0
        });
        self.status.send_replace(Arc::new(status));
    }
}

fn named(ids: &[SpiffeId]) -> Vec<String> {
    ids.iter().take(NAMED).map(ToString::to_string).collect()
}

/// The writes in portions that a transaction can carry, in their order.
fn portions(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut portions: Vec<Vec<Write>> = Vec::new();
    let mut room = 0;
    for write in writes {
        let size = match &write {
            Write::Put { key, value } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        };
        match portions.last_mut() {
            Some(portion) if size <= room => portion.push(write),
            _ => {
                portions.push(vec![write]);
                room = TRANSACTION_BYTES;
            }
        }
        room = room.saturating_sub(size);
    }
    portions
}
