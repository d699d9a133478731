//! The log of callers that are not served. Whoever connects again and again could write it at will: a few lines each ten
//! seconds go in, and the number of those that did not.

use std::error::Error;
use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::clock::Seldom;

/// Lines of all callers together in each [`PERIOD`].
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// What is logged of callers that are not served. One for all of them.
#[derive(Debug)]
pub struct Refusals(Seldom);

impl Default for Refusals {
    fn default() -> Self {
        Self(Seldom::several(LINES, PERIOD))
    }
}

impl Refusals {
    /// The process `who` could not be looked at.
    pub fn not_attested(&self, who: impl Display, error: &dyn Error) {
        if let Some(suppressed) = self.0.event(Instant::now()) {
            let cause = error.source().map(tracing::field::display);
            tracing::warn!(caller = %who, error = %error, cause, suppressed, "caller not attested");
        }
    }

    /// The certificate of a remote caller is good for nothing.
    pub(super) fn not_served(&self, address: impl Display, name: impl Display, error: &dyn Error) {
        if let Some(suppressed) = self.0.event(Instant::now()) {
            let cause = error.source().map(tracing::field::display);
            tracing::warn!(%address, %name, error = %error, cause, suppressed, "remote caller not served");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;
    use crate::attest::AttestError;

    /// Counts lines, and adds up what they say was left out.
    #[derive(Default)]
    struct Log {
        lines: AtomicU64,
        suppressed: AtomicU64,
    }

    impl Visit for &Log {
        fn record_u64(&mut self, field: &Field, value: u64) {
            if field.name() == "suppressed" {
                self.suppressed.fetch_add(value, Ordering::Relaxed);
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
    }

    struct Shared(Arc<Log>);

    impl Subscriber for Shared {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.0.lines.fetch_add(1, Ordering::Relaxed);
            event.record(&mut &*self.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_thousand_callers_write_a_few_lines_and_how_many_there_were() {
        let (log, mut refusals) = (Arc::new(Log::default()), Refusals::default());
        refusals.0 = Seldom::several(LINES, Duration::from_millis(500));
        let error = AttestError::NotVisible;
        let lines = || log.lines.load(Ordering::Relaxed);
        tracing::subscriber::with_default(Shared(log.clone()), || {
            for pid in 0..1000 {
                refusals.not_attested(format_args!("pid {pid}"), &error);
            }
            assert!(lines() <= u64::from(LINES), "{}", lines());
            std::thread::sleep(Duration::from_millis(600));
            refusals.not_attested("pid 1000", &error);
        });
        assert_eq!(lines() + log.suppressed.load(Ordering::Relaxed), 1001, "none is forgotten");
    }
}
