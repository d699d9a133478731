//! The metrics of the process, kept here and rendered when somebody asks. No listener of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};

use crate::runtime::Drain;

/// Seconds: from a signature or a lookup (0.1 ms) to a drain (a minute).
const SECONDS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];
/// Bytes: from one leaf to a bundle with its CRLs.
const BYTES: [f64; 9] =
    [256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];
/// Anything that is counted.
const COUNTS: [f64; 10] = [0.0, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 10_000.0];

/// How often histograms are folded; unfolded samples cost memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Where metrics can be read without the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A loopback address and port, such as `127.0.0.1:9464`, for `/metrics`, `/healthz` and `/readyz` over
    /// HTTP. Absent (default): none.
    pub listen: Option<SocketAddr>,
}

/// Why the recorder could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be set up")]
pub struct Error(#[from] BuildError);

/// The recorder's reading side. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Installs the process's recorder. Modules describe their metrics after it.
///
/// # Errors
/// If a recorder is already there.
pub fn install() -> Result<Metrics, Error> {
    let handle = builder()?.install_recorder()?;
    metrics::describe_gauge!("countersign_build_info", "1; the version is its label.");
    metrics::gauge!("countersign_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Metrics(handle))
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?
        .set_buckets(&COUNTS)
}

impl Metrics {
    /// Everything, in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds histograms until the drain.
    ///
    /// # Errors
    /// Never.
    pub async fn upkeep(self, drain: Drain) -> Result<(), Infallible> {
        let mut ticks = tokio::time::interval(UPKEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.begun() => return Ok(()),
                _ = ticks.tick() => self.0.run_upkeep(),
            }
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rendered_as_true_histograms() {
        let recorder = builder().unwrap().build_recorder();
        let metrics = Metrics(recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("countersign_sign_seconds").record(0.002);
        });
        let text = metrics.render();
        assert!(text.contains("countersign_sign_seconds_bucket{le=\"0.0025\"} 1"), "{text}");
    }
}
