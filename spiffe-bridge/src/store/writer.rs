//! The one thread that writes: takes all that waits into one redb transaction and one fsync.

use std::sync::Arc;
use std::time::Instant;

use redb::{Database, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot, watch};

use super::file::{META, REVISION, VALUES};
use super::history::History;
use super::{Compare, StoreError, Transaction, Write};
use crate::identity::Revision;

/// The most transactions in one commit, so that the first of them does not wait too long for the last.
const BATCH: usize = 512;
/// The most bytes in one commit, the last transaction's not counted.
const BATCH_BYTES: usize = 16 << 20;

/// A transaction that waits, and where its answer goes.
pub(super) struct Job {
    pub(super) transaction: Transaction,
    pub(super) answer: oneshot::Sender<Result<Revision, StoreError>>,
}

type Values<'t> = Table<'t, &'static [u8], (u64, &'static [u8])>;

/// What became of one transaction of a batch that was committed: the revision at which it holds, or what does not.
type Verdict = Result<Revision, Compare>;

/// Writes what [`Store::transact`](super::Store::transact) asks for.
pub struct Writer {
    db: Arc<Database>,
    jobs: mpsc::Receiver<Job>,
    history: Arc<History>,
    revision: watch::Sender<Revision>,
}

impl Writer {
    pub(super) fn new(
        db: Arc<Database>,
        jobs: mpsc::Receiver<Job>,
        history: Arc<History>,
        revision: watch::Sender<Revision>,
    ) -> Self {
        Self { db, jobs, history, revision }
    }

    /// Writes until the last [`Store`](super::Store) is dropped. Blocks: give it a thread of its own.
    pub fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let batch = self.gather(first);
            if let Err(source) = self.commit(batch) {
                tracing::error!(error = %source, "writing the store failed: no more writes before a restart");
                metrics::counter!("countersign_store_failures_total").increment(1);
                return self.refuse_all(&source);
            }
        }
    }

    /// `first` and whatever else waits already.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.transaction.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Ok(job) = self.jobs.try_recv() else { break };
            bytes += job.transaction.bytes();
            batch.push(job);
        }
        batch
    }

    /// Judges and writes a batch, publishes what changed, and answers. Readers see it before the answers go out.
    fn commit(&self, batch: Vec<Job>) -> Result<(), Arc<redb::Error>> {
        let started = Instant::now();
        let verdicts = match self.write(batch.iter().map(|job| &job.transaction)) {
            Ok(verdicts) => verdicts,
            Err(source) => {
                let source = Arc::new(source);
                for job in batch {
                    let _ = job.answer.send(Err(StoreError::Write { source: source.clone() }));
                }
                return Err(source);
            }
        };
        metrics::histogram!("countersign_store_commit_seconds").record(started.elapsed());
        metrics::counter!("countersign_store_transactions_total").increment(batch.len() as u64);
        let mut answers = Vec::with_capacity(batch.len());
        let mut newest = *self.revision.borrow();
        for (Job { transaction, answer }, verdict) in batch.into_iter().zip(verdicts) {
            if let Ok(revision) = &verdict
                && !transaction.writes.is_empty()
            {
                newest = *revision;
                self.history.push(newest, transaction.writes);
            }
            answers.push((answer, verdict.map_err(|compare| StoreError::Conflict { compare })));
        }
        if newest != *self.revision.borrow() {
            self.revision.send_replace(newest);
        }
        for (to, answer) in answers {
            let _ = to.send(answer); // Its caller may have gone.
        }
        Ok(())
    }

    /// One redb transaction for all; an error means that none of it can be relied on.
    fn write<'j>(&self, jobs: impl Iterator<Item = &'j Transaction>) -> Result<Vec<Verdict>, redb::Error> {
        let transaction = self.db.begin_write()?;
        let mut verdicts = Vec::new();
        let before = *self.revision.borrow();
        let mut revision = before;
        {
            let mut values = transaction.open_table(VALUES)?;
            for job in jobs {
                verdicts.push(match first_that_fails(&values, &job.compares)? {
                    Some(compare) => Err(compare.clone()),
                    None if job.writes.is_empty() => Ok(revision),
                    None => {
                        revision = Revision(revision.0 + 1);
                        apply(&mut values, &job.writes, revision)?;
                        Ok(revision)
                    }
                });
            }
            if revision > before {
                transaction.open_table(META)?.insert(REVISION, revision.0)?;
            }
        }
        if revision > before {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(verdicts)
    }

    /// After a failure: says so to everybody who asks, until nobody is left. Watchers stay, reads go on.
    fn refuse_all(mut self, source: &Arc<redb::Error>) {
        while let Some(job) = self.jobs.blocking_recv() {
            let _ = job.answer.send(Err(StoreError::Write { source: source.clone() }));
        }
    }
}

fn first_that_fails<'c>(
    values: &Values<'_>,
    compares: &'c [Compare],
) -> Result<Option<&'c Compare>, redb::Error> {
    for compare in compares {
        let holds = match compare {
            Compare::Absent(key) => values.get(key.as_slice())?.is_none(),
            Compare::Revision(key, revision) => {
                values.get(key.as_slice())?.is_some_and(|found| found.value().0 == revision.0)
            }
        };
        if !holds {
            return Ok(Some(compare));
        }
    }
    Ok(None)
}

fn apply(values: &mut Values<'_>, writes: &[Write], revision: Revision) -> Result<(), redb::Error> {
    for write in writes {
        match write {
            Write::Put { key, value } => {
                values.insert(key.as_slice(), (revision.0, value.as_slice()))?;
            }
            Write::Delete { key } => {
                values.remove(key.as_slice())?;
            }
        }
    }
    Ok(())
}
