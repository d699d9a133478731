//! The audit log's records go when nothing that they speak of can be of use any more.

use std::convert::Infallible;
use std::time::Duration;

use spiffe_bridge::audit::Log;

use crate::runtime::Drain;

const EVERY: Duration = Duration::from_secs(600);
/// Between two steps while there is more: others write too.
const AGAIN: Duration = Duration::from_millis(100);

/// Removes records older than `keep`, a bounded step at a time.
pub(super) async fn run(log: Log, keep: Duration, drain: Drain) -> Result<(), Infallible> {
    loop {
        let pause = match log.prune(keep).await {
            Ok(0) => EVERY,
            Ok(_) => AGAIN,
            Err(error) => {
                tracing::warn!(%error, "old audit records cannot be removed; trying again");
                EVERY
            }
        };
        tokio::select! {
            () = drain.begun() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
