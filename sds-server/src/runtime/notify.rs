//! What systemd is told. Without systemd (no `NOTIFY_SOCKET`) all of it does nothing.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

/// Everything is served.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// The drain has begun.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Files are being read again; [`ready`] ends it.
pub fn reloading() {
    // systemd wants the time with it, to tell this reload from an earlier one. sd_notify(3)
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
    }
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(&text.replace('\n', " "))]);
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// How often systemd wants to hear from us, if it does: half of what it allows.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0)?;
    Some(Duration::from_micros(micros) / 2)
}

/// Pings systemd's watchdog for the life of the process. Spawn it in the background: it runs on the
/// runtime that serves, so that a runtime that stands still is noticed.
///
/// # Errors
/// Never.
pub async fn watchdog() -> Result<(), Infallible> {
    let Some(interval) = watchdog_interval() else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
    loop {
        ticks.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}
