//! Where the answers come from: the composition root fills this in.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use super::model::{
    Bundle, Entries, Explained, Forget, Forgotten, Holders, NotHolding, Records, Rescan, Rescanned, Status,
    Trail,
};
use crate::runtime::Readiness;
use crate::telemetry::metrics::Metrics;

/// One question that the server answers at once, from what it has at hand.
type Ask<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// The rescan's answer: what it did, or why it could not.
type Rescanning = BoxFuture<'static, Result<Rescanned, String>>;

/// The member that was let go, or why it stays.
type Forgetting = BoxFuture<'static, Result<Forgotten, String>>;

/// What a process is to the server, or why nothing can be said of it.
type Explaining = BoxFuture<'static, Result<Explained, String>>;

/// Records, or why the log cannot be read.
type Reading = BoxFuture<'static, Result<Records, String>>;

/// The server, as the admin API sees it. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    /// How the server is.
    pub status: Ask<Status>,
    /// The open streams, each an object as `sds::StreamStatus` or `workload_api::FeedStatus` writes it: the CLI makes a row of each of its `names`.
    pub streams: Ask<Vec<Value>>,
    /// Who does not hold a version of a name yet, or why the question has no answer.
    pub missing: Arc<dyn Fn(NotHolding) -> Result<Holders, String> + Send + Sync>,
    /// Lets a member of the roster go, for an operator.
    pub forget: Arc<dyn Fn(Forget) -> Forgetting + Send + Sync>,
    /// The entries in force.
    pub entries: Ask<Entries>,
    /// Our own bundle; `None` until there is one.
    pub bundle: Ask<Option<Bundle>>,
    /// Reads the entry documents again.
    pub rescan: Arc<dyn Fn(Rescan) -> Rescanning + Send + Sync>,
    /// Explains what the process with a pid gets, and why.
    pub explain: Arc<dyn Fn(u32) -> Explaining + Send + Sync>,
    /// Reads the audit log.
    pub audit: Arc<dyn Fn(Trail) -> Reading + Send + Sync>,
    /// What was counted.
    pub metrics: Metrics,
    /// Who is not ready.
    pub readiness: Readiness,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}
