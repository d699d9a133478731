//! A server's life: it serves, and may hand its place to another, and take it back if that fails.

use super::all_in_one::{self, Start};
use super::handover::{Predecessor, Verdict};
use crate::config::Settings;
use crate::endpoint::sockets::Sockets;
use crate::telemetry::metrics::Metrics;

/// How a server comes to its place.
#[derive(Debug)]
pub enum Place {
    /// It makes its sockets, but for those that were handed to its process.
    Own(Sockets),
    /// It takes that of the running server of its data directory.
    TakenOver,
}

/// Runs the server until it is told to end, or another serves in its place.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it, and the first failure of a task.
pub async fn run(settings: Settings, init: bool, place: Place, metrics: Metrics) -> anyhow::Result<()> {
    let (mut handed, mut predecessor) = match place {
        Place::Own(handed) => (handed, None),
        Place::TakenOver => {
            let (predecessor, handed) = Predecessor::of(&settings.data, |handed| {
                handed.require(&settings.socket)?;
                Ok(())
            })
            .await?;
            (handed, Some(predecessor))
        }
    };
    loop {
        let start = Start { init, handed, predecessor: predecessor.take() };
        let Some(taken) = all_in_one::serve(settings.clone(), start, metrics.clone()).await? else {
            return Ok(());
        };
        match taken.released().await? {
            Verdict::Serves => {
                tracing::info!("another server serves in the place of this one: ending");
                return Ok(());
            }
            Verdict::Failed(back) => {
                let advice = "its log tells why; this one serves on";
                tracing::error!(advice, "the server that took the place of this one ended before it served");
                handed = back;
            }
        }
    }
}
