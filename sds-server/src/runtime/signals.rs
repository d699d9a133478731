//! SIGTERM and SIGINT end the process, the second one at once; SIGHUP asks for a rereading. Signals without a
//! meaning here, whose default is to end the process, are taken and told in the log: a slip is no outage.

use std::convert::Infallible;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::Drainer;

/// The task that waits for signals. Spawn it in the background.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    alarm: Signal,
    drainer: Drainer,
    reread: watch::Sender<u64>,
}

/// Tells its holder when everything that came from files should be read again.
#[derive(Clone, Debug)]
pub struct Reread(watch::Receiver<u64>);

impl Signals {
    /// Takes the signals over. From here on SIGTERM no longer kills by itself.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn install(drainer: Drainer) -> io::Result<(Self, Reread)> {
        let (reread, requests) = watch::channel(0);
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            // SIGPIPE is not among them: Rust's start-up ignores it, and writes say EPIPE.
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            alarm: signal(SignalKind::alarm())?,
            drainer,
            reread,
        };
        Ok((signals, Reread(requests)))
    }

    /// Runs for the life of the process.
    ///
    /// # Errors
    /// Never.
    pub async fn run(mut self) -> Result<(), Infallible> {
        let mut asked = false;
        loop {
            let ignored = |name| tracing::info!(signal = name, "a signal that means nothing here: ignored");
            let name = tokio::select! {
                _ = self.user1.recv() => { ignored("SIGUSR1"); continue }
                _ = self.user2.recv() => { ignored("SIGUSR2"); continue }
                _ = self.alarm.recv() => { ignored("SIGALRM"); continue }
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP: reading again");
                    self.reread.send_modify(|count| *count = count.wrapping_add(1));
                    continue;
                }
            };
            if asked {
                tracing::warn!(signal = name, "a second signal: ending at once");
                self.drainer.force();
            } else {
                tracing::info!(signal = name, "draining; a second signal ends at once");
                self.drainer.begin();
                asked = true;
            }
        }
    }
}

impl Reread {
    /// Returns when a rereading is asked for. Several requests while nobody looked are one. Cancel safe.
    pub async fn requested(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await; // the signals task is gone: nobody can ask any more
        }
    }
}
