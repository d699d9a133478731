//! Owns every task of the process; the first that fails brings all down in order.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::{BoxError, Drain, Drainer};

/// How long a task may take to drop its work once it has been told to.
const AFTER_FORCE: Duration = Duration::from_secs(2);

/// Why the process had to end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A task returned an error.
    #[error("task {task} failed")]
    Failed {
        /// Its name.
        task: &'static str,
        /// What it said.
        #[source]
        source: BoxError,
    },
    /// A task panicked: a bug.
    #[error("task {task} panicked: {message}")]
    Panicked {
        /// Its name.
        task: &'static str,
        /// The panic's message.
        message: String,
    },
    /// A task that should run for as long as the process returned before the drain.
    #[error("task {task} ended by itself")]
    Ended {
        /// Its name.
        task: &'static str,
    },
    /// Tasks were still there after the drain had been forced.
    #[error("tasks did not end when they were told to: {}", tasks.join(", "))]
    Stuck {
        /// Their names, sorted.
        tasks: Vec<&'static str>,
    },
}

/// What a task's end means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Runs until the drain.
    Lasting,
    /// Returns when its work is done.
    Finite,
    /// Runs for ever; nobody waits for it.
    Background,
}

/// Spawns tasks, each with a name and a span, and waits for them.
#[derive(Debug)]
pub struct Supervisor {
    drainer: Drainer,
    tasks: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, (&'static str, Kind)>,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lasting => "lasting",
            Self::Finite => "finite",
            Self::Background => "background",
        })
    }
}

impl Supervisor {
    /// Supervises with the drain that `drainer` ends.
    #[must_use]
    pub fn new(drainer: Drainer) -> Self {
        Self { drainer, tasks: JoinSet::new(), names: HashMap::new() }
    }

    /// A task that runs until the drain: `spawn("name", |drain| task.run(drain))`. If it returns earlier,
    /// well or not, the process goes down.
    pub fn spawn<F, E>(&mut self, name: &'static str, task: impl FnOnce(Drain) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let future = task(self.drainer.drain());
        self.start(name, Kind::Lasting, future);
    }

    /// A task that may return when its work is done. If it fails, the process goes down.
    pub fn spawn_finite<F, E>(&mut self, name: &'static str, task: impl FnOnce(Drain) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let future = task(self.drainer.drain());
        self.start(name, Kind::Finite, future);
    }

    /// A task that knows no end and that nobody waits for, such as the signals'.
    pub fn spawn_background<F, E>(&mut self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.start(name, Kind::Background, future);
    }

    fn start<F, E>(&mut self, name: &'static str, kind: Kind, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let span = tracing::info_span!("task", name);
        let handle = self.tasks.spawn(async move { future.await.map_err(Into::into) }.instrument(span));
        self.names.insert(handle.id(), (name, kind));
    }

    /// Runs until the drain has begun and all lasting and finite tasks are over. Work that is still there
    /// `deadline` after the drain began is dropped.
    ///
    /// # Errors
    /// The first [`Failure`]; the ones after it are logged.
    pub async fn run(mut self, deadline: Duration) -> Result<(), Failure> {
        let drain = self.drainer.drain();
        let mut first = None;
        while self.is_working() {
            tokio::select! {
                () = drain.begun() => break,
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Some(failure) = self.ended(ended) {
                        first = Some(failure);
                        self.drainer.begin();
                        break;
                    }
                }
            }
        }
        self.finish(deadline, &mut first).await;
        first.map_or(Ok(()), Err)
    }

    async fn finish(&mut self, deadline: Duration, first: &mut Option<Failure>) {
        self.drainer.begin();
        super::notify::stopping();
        let drain = self.drainer.drain();
        let mut until = Instant::now() + deadline;
        let mut is_forced = false;
        while self.is_working() {
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Some(failure) = self.ended(ended) {
                        first.get_or_insert(failure);
                    }
                }
                () = drain.forced(), if !is_forced => {
                    is_forced = true;
                    until = Instant::now() + AFTER_FORCE;
                }
                () = sleep_until(until) => {
                    let tasks = self.working();
                    if is_forced {
                        first.get_or_insert(Failure::Stuck { tasks });
                        break;
                    }
                    tracing::warn!(?tasks, "the drain's deadline has come: dropping what is left");
                    self.drainer.force();
                }
            }
        }
        self.tasks.shutdown().await;
    }

    /// Takes a task that is over off the list, and tells whether that is a failure.
    fn ended(&mut self, ended: Result<(Id, Result<(), BoxError>), JoinError>) -> Option<Failure> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let (task, kind) = self.names.remove(&id)?;
        let failure = match ended {
            Ok((_, Ok(()))) if kind == Kind::Lasting && !self.drainer.drain().has_begun() => {
                Failure::Ended { task }
            }
            Ok((_, Ok(()))) => return None,
            Ok((_, Err(source))) => Failure::Failed { task, source },
            Err(error) => Failure::Panicked { task, message: panic_message(error) },
        };
        let source = std::error::Error::source(&failure).map(ToString::to_string);
        tracing::error!(task, source, "{failure}");
        Some(failure)
    }

    fn is_working(&self) -> bool {
        self.names.values().any(|(_, kind)| *kind != Kind::Background)
    }

    fn working(&self) -> Vec<&'static str> {
        let waited = self.names.values().filter(|(_, kind)| *kind != Kind::Background);
        waited.map(|(name, _)| *name).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else {
        return "it was aborted".to_owned();
    };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
