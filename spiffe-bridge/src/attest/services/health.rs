//! Whether the services answer, to be seen in status, metrics and log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Service;
use crate::attest::workload::Unseen;
use crate::identity::SelectorSet;

/// How a service that was asked stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ServiceStatus {
    /// Which.
    pub service: Service,
    /// Questions that it did not answer in a row; 0 if all is well.
    pub failures: u64,
    /// What it last failed with, while it fails.
    pub error: Option<String>,
    /// For how many seconds it has failed.
    pub failing_for: u64,
}

#[derive(Debug, Default)]
pub(super) struct Health(Mutex<BTreeMap<Service, State>>);

#[derive(Debug, Default)]
struct State {
    failures: u64,
    failing: Option<(Instant, String)>,
}

impl Health {
    /// Counts an answer. That a service knows nothing of a process is an answer.
    pub(super) fn record(&self, service: Service, answer: &Result<SelectorSet, Unseen>) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(service).or_default();
        let name = service.as_str();
        if let Some(error) = answer.as_ref().err().filter(|unseen| unseen.is_failure()) {
            metrics::counter!("countersign_attestor_failures_total", "attestor" => name).increment(1);
            state.failures += 1;
            // Once, not for each caller: the status has the rest.
            let began = state.failing.as_ref().map(|(began, _)| *began);
            if began.is_none() {
                tracing::warn!(attestor = name, %error, "the attestor fails: its selectors are unknown");
            }
            state.failing = Some((began.unwrap_or_else(Instant::now), error.to_string()));
        } else if let Some((began, _)) = state.failing.take() {
            let seconds = began.elapsed().as_secs();
            tracing::info!(attestor = name, failures = state.failures, seconds, "the attestor answers again");
            state.failures = 0;
        }
        let failing = f64::from(u8::from(state.failing.is_some()));
        metrics::gauge!("countersign_attestor_failing", "attestor" => name).set(failing);
    }

    pub(super) fn status(&self) -> Vec<ServiceStatus> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |(service, state): (&Service, &State)| ServiceStatus {
            service: *service,
            failures: state.failures,
            error: state.failing.as_ref().map(|(_, error)| error.clone()),
            failing_for: state.failing.as_ref().map_or(0, |(began, _)| began.elapsed().as_secs()),
        };
        states.iter().map(status).collect()
    }
}
