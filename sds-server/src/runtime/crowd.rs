//! Threads for callers that keep the server busy.
//!
//! The kernel serves a thread at once that has run little, and lets one that never stops wait while others run. Who keeps
//! the server busy does so on threads of its own, and those of the others stay quick; they have shorter slices too.
//! docs/decisions/0019-turns.md

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

use super::slices;

/// The threads. They end soon after this is dropped, with what runs on them.
#[derive(Debug)]
pub struct Crowd(Option<Runtime>);

impl Crowd {
    /// As many as the machine runs at one time.
    ///
    /// # Errors
    /// No threads can be had.
    pub fn start() -> io::Result<Self> {
        Builder::new_multi_thread()
            .thread_name("crowd")
            .enable_all()
            .on_thread_start(slices::usual)
            .build()
            .map(Some)
            .map(Self)
    }

    /// To run something there; nothing runs after this was dropped.
    #[must_use]
    pub fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Not waited for: this may be dropped by a task.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
