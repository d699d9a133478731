//! Waits for a condition with a deadline; a test that waits in any other way is slow or flaky.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The first value that `probe` gives, asked every 20 ms for `within`.
///
/// # Errors
/// The deadline passed; `what` says what was waited for.
pub async fn until<T>(what: &str, within: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Ok(value);
        }
        if start.elapsed() > within {
            bail!("not within {within:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The same for a plain condition.
///
/// # Errors
/// The deadline passed.
pub async fn holds(what: &str, within: Duration, mut probe: impl AsyncFnMut() -> bool) -> Result<()> {
    until(what, within, async || probe().await.then_some(())).await
}
