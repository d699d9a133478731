//! The real `countersign`, built once a process, run in a directory of the test.

mod activation;
mod binary;

pub use binary::built;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::poll;
use crate::process::Process;
use crate::scratch::Scratch;

const LOG: &str = "countersign.log";
/// Well past what a start takes, even on a busy machine.
const START: Duration = Duration::from_secs(20);

/// What differs from the server's own defaults.
#[derive(Debug, Clone)]
pub struct Options {
    pub trust_domain: String,
    /// `authority.leaf_lifetime`, as in the configuration: `20s`.
    pub leaf_lifetime: Option<String>,
    /// `renewal.at`: at which part of its life an SVID is renewed.
    pub renew_at: Option<f64>,
    /// More of the configuration, as YAML.
    pub more: String,
    /// Variables of its environment, beside our own.
    pub environment: &'static [(&'static str, &'static str)],
}

impl Default for Options {
    fn default() -> Self {
        let (leaf_lifetime, renew_at, more) = Default::default();
        Self { trust_domain: "example.org".into(), leaf_lifetime, renew_at, more, environment: &[] }
    }
}

#[derive(Debug)]
pub struct Server {
    process: Process,
    program: &'static Path,
    arguments: Vec<String>,
    dir: PathBuf,
}

impl Server {
    /// Starts it under `scratch/name` and waits until it serves.
    ///
    /// # Errors
    /// It cannot be built, or does not become ready; the error has the end of its log.
    pub async fn start(scratch: &Scratch, name: &str, options: &Options) -> Result<Self> {
        let launch = |program: &Path, arguments: &[String], log: &Path| {
            let mut command = Command::new(program);
            command.args(arguments).envs(options.environment.iter().copied());
            Process::spawn("countersign", command, None, log)
        };
        Self::begin(scratch, name, options, launch).await
    }

    /// The same with `sockets` handed over as systemd does.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn activated(
        scratch: &Scratch,
        name: &str,
        options: &Options,
        sockets: &[OwnedFd],
    ) -> Result<Self> {
        let launch = |program: &Path, arguments: &[String], log: &Path| {
            activation::launch(program, arguments, sockets, log)
        };
        Self::begin(scratch, name, options, launch).await
    }

    async fn begin(
        scratch: &Scratch,
        name: &str,
        options: &Options,
        launch: impl Fn(&Path, &[String], &Path) -> Result<Process>,
    ) -> Result<Self> {
        let program = binary::built()?;
        let dir = scratch.dir(name, None)?;
        fs::create_dir_all(dir.join("entries"))?;
        let path = |leaf: &str| dir.join(leaf).display().to_string();
        let mut arguments = vec!["serve".to_owned(), "--init".into()];
        for (flag, value) in [
            ("--trust-domain", options.trust_domain.clone()),
            ("--data", path("data")),
            ("--entries", path("entries")),
            ("--socket", path("api.sock")),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        if let Some(text) = config(options) {
            fs::write(dir.join("countersign.yaml"), text)?;
            arguments.extend(["--config".into(), path("countersign.yaml")]);
        }
        let process = launch(program, &arguments, &dir.join(LOG))?;
        let mut server = Self { process, program, arguments, dir };
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&mut self) -> Result<()> {
        let said = |process: &Process| process.output().lines().any(|line| line == "ready");
        poll::until("the server says ready", START, async || match self.process.alive() {
            Err(ended) => Some(Err(ended)),
            Ok(()) => said(&self.process).then_some(Ok(())),
        })
        .await
        .with_context(|| self.process.tail())?
    }

    /// The program itself, built, to be run elsewhere.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn program() -> Result<&'static Path> {
        binary::built()
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What of its memory is resident now (`VmRSS:`), or was at the most (`VmHWM:`), in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes =
            line.and_then(|line| line.split_whitespace().next()).context("the server has ended")?;
        Ok(kibibytes.parse::<u64>()? * 1024)
    }

    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Writes an entry document that gives `id` to whoever has all `selectors`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn add_entry(&self, id: &str, selectors: &[&str]) -> Result<()> {
        static DOCUMENTS: AtomicU32 = AtomicU32::new(0);
        let name = DOCUMENTS.fetch_add(1, Ordering::Relaxed);
        let text = format!("kind: Workload\nspiffe_id: {id}\nselectors: [{}]\n", selectors.join(", "));
        self.write_documents(&format!("entry-{name}"), &text)
    }

    /// Writes the entry file `name` anew.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write_documents(&self, name: &str, text: &str) -> Result<()> {
        // Renamed into place, so that the server never reads half of it.
        let half = self.dir.join("entry.half");
        fs::write(&half, text)?;
        fs::rename(half, self.dir.join("entries").join(format!("{name}.yaml")))?;
        Ok(())
    }

    /// Deletes the entry file `name`.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_documents(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.dir.join("entries").join(format!("{name}.yaml")))?)
    }

    /// Gone at once, as in a crash.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Drained and ended, as at a shutdown.
    ///
    /// # Errors
    /// It does not end well within ten seconds.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.ended(Duration::from_secs(10)).await?;
        ensure!(status.success(), "the server ended with {status}:\n{}", self.process.tail());
        Ok(())
    }

    /// The same server again, with its data.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.set_log_aside()?;
        self.process = launch(self.program, &self.arguments, &self.dir.join(LOG))?;
        self.ready().await
    }

    /// The same server again, with its data, and with `sockets` handed over as systemd does.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn reactivate(&mut self, sockets: &[OwnedFd]) -> Result<()> {
        self.set_log_aside()?;
        self.process = activation::launch(self.program, &self.arguments, sockets, &self.dir.join(LOG))?;
        self.ready().await
    }

    /// Another process takes the place of this one, which then ends well.
    ///
    /// # Errors
    /// The other does not become ready, or this one does not end.
    pub async fn hand_over(&mut self) -> Result<()> {
        self.set_log_aside()?;
        let successor = self.successor(LOG, &[])?;
        let mut before = std::mem::replace(&mut self.process, successor);
        self.ready().await?;
        let status = before.ended(Duration::from_secs(10)).await?;
        ensure!(status.success(), "the server before ended with {status}");
        Ok(())
    }

    /// A process that is to take the place of this one, with `more` arguments, and its own log of that name.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn successor(&self, log: &str, more: &[&str]) -> Result<Process> {
        let arguments = self.arguments.iter().filter(|argument| *argument != "--init").cloned();
        let more = std::iter::once(&"--takeover").chain(more).map(|text| (*text).to_owned());
        launch(self.program, &arguments.chain(more).collect::<Vec<_>>(), &self.dir.join(log))
    }

    /// A process of the same program with whatever arguments, and its own log of that name.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn bare(&self, arguments: &[&str], log: &str) -> Result<Process> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        launch(self.program, &arguments, &self.dir.join(log))
    }

    /// A log of its own for the next process, so that the old `ready` is not taken for the new one.
    fn set_log_aside(&mut self) -> Result<()> {
        Ok(fs::rename(self.dir.join(LOG), self.dir.join("countersign.before.log"))?)
    }

    /// Runs the operator's CLI against this server.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.program);
        command.args(arguments).env("COUNTERSIGN_ADMIN", self.data().join("admin.sock"));
        command.output().context("run countersign")
    }

    /// The line that does the same in a shell.
    #[must_use]
    pub fn cli_line(&self, arguments: &str) -> String {
        format!("{} {arguments} --data {}", self.program.display(), self.data().display())
    }
}

fn launch(program: &Path, arguments: &[String], log: &Path) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(arguments);
    Process::spawn("countersign", command, None, log)
}

fn config(options: &Options) -> Option<String> {
    let mut text = String::new();
    if let Some(lifetime) = &options.leaf_lifetime {
        text += &format!("authority:\n  leaf_lifetime: {lifetime}\n");
    }
    if let Some(at) = options.renew_at {
        // The spread must fit below it.
        text += &format!("renewal:\n  at: {at}\n  spread: {}\n", at / 5.0);
    }
    text += &options.more;
    (!text.is_empty()).then_some(text)
}
