//! A real Envoy from a bootstrap: run, validated, and asked what it has applied.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Process;
use crate::scratch::Scratch;
use crate::seats::Seat;
use crate::tools::Release;
use crate::{http, poll};

/// `initial_fetch_timeout` and a margin: an Envoy without secrets is LIVE only after that.
const START: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: PathBuf,
}

impl Envoy {
    /// Where the admin socket of the Envoy called `name` will be: its bootstrap must say so.
    #[must_use]
    pub fn admin_socket(scratch: &Scratch, name: &str) -> PathBuf {
        scratch.path().join(name).join("admin.sock")
    }

    /// Starts `bootstrap` in `seat`. It is not yet [`live`](Self::live).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(scratch: &Scratch, name: &str, seat: &Seat, bootstrap: &str) -> Result<Self> {
        Self::start_in(scratch.dir(name, seat.uid)?, name, seat, bootstrap)
    }

    /// The same in its own directory `dir`, which [`admin_socket`](Self::admin_socket) is in.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_in(dir: PathBuf, name: &str, seat: &Seat, bootstrap: &str) -> Result<Self> {
        let config = dir.join("bootstrap.yaml");
        fs::write(&config, bootstrap)?;
        let mut command = Command::new(&seat.program);
        command.arg("--config-path").arg(&config);
        // Several Envoys on one machine would fight over the shared memory of hot restart.
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "info"]);
        // Access logs are written every 10 s by default; a test wants to read them now.
        command.args(["--file-flush-interval-msec", "100"]);
        let process = Process::spawn(name, command, seat.uid, &dir.join("envoy.log"))?;
        Ok(Self { process, admin: dir.join("admin.sock") })
    }

    /// Waits until it has started whole: secrets there, or given up waiting for them.
    ///
    /// # Errors
    /// It ended, or did not become LIVE in time.
    pub async fn live(&mut self) -> Result<()> {
        let admin = self.admin.clone();
        poll::until("Envoy is LIVE", START, async || match self.process.alive() {
            Err(ended) => Some(Err(ended)),
            Ok(()) => {
                let ready = http::get_unix(&admin, "/ready").await;
                ready.is_ok_and(|answer| answer.status().is_success()).then_some(Ok(()))
            }
        })
        .await
        .with_context(|| self.process.tail())?
    }

    /// Gone at once, as in a crash.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// The process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The text at an admin path.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn admin(&self, path: &str) -> Result<String> {
        let answer = http::get_unix(&self.admin, path).await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// All counters and gauges.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn stats(&self) -> Result<Stats> {
        let text = self.admin("/stats").await?;
        let number = |line: &str| -> Option<(String, u64)> {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(Stats(text.lines().filter_map(number).collect()))
    }

    /// What is served and trusted right now: `/certs`.
    ///
    /// # Errors
    /// The admin interface does not answer, or not in JSON.
    pub async fn certs(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.admin("/certs").await?)?)
    }

    /// The serial of the certificate with `id` that handshakes get right now.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn serial(&self, id: &str) -> Result<Option<String>> {
        let certs = self.certs().await?;
        let list = |of: &Value, key: &str| of.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let leaves = list(&certs, "certificates").into_iter().flat_map(|one| list(&one, "cert_chain"));
        let is_its = |leaf: &Value| {
            list(leaf, "subject_alt_names")
                .iter()
                .any(|name| name.get("uri").and_then(Value::as_str) == Some(id))
        };
        let serial = |leaf: Value| leaf.get("serial_number").and_then(Value::as_str).map(str::to_owned);
        Ok(leaves.filter(is_its).find_map(serial))
    }

    /// The end of the log, for people.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail()
    }

    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// Envoy's counters and gauges at one moment.
#[derive(Debug, Clone)]
pub struct Stats(BTreeMap<String, u64>);

impl Stats {
    /// One by its full name; nothing yet counted is 0.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The sum of all whose name starts and ends so: listeners have their address in the name.
    #[must_use]
    pub fn sum(&self, start: &str, end: &str) -> u64 {
        self.each(start, end).into_iter().sum()
    }

    /// All whose name starts and ends so, in the order of their names.
    #[must_use]
    pub fn each(&self, start: &str, end: &str) -> Vec<u64> {
        let fits = |name: &&String| name.starts_with(start) && name.ends_with(end);
        self.0.iter().filter(|(name, _)| fits(name)).map(|(_, value)| *value).collect()
    }

    /// Contexts that were really rebuilt by a secret: the one counter that does not count a repetition.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.sum("", "ssl_context_update_by_sds")
    }
}

/// What `envoy --mode validate` of `release` says of `bootstrap`.
///
/// # Errors
/// It is not valid; the error is Envoy's.
pub fn validate(release: Release, dir: &Path, bootstrap: &str) -> Result<()> {
    let config = dir.join("validated.yaml");
    fs::write(&config, bootstrap)?;
    let mut command = Command::new(release.envoy()?);
    command.args(["--mode", "validate", "--config-path"]).arg(&config);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
