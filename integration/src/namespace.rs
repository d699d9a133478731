//! A network namespace of our own: a thread that lives in it and starts what should live there. Needs root.
//!
//! What is started there dies with that thread, since a child is told of the death of the thread that made it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};

use crate::tools::network::Tool;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub struct Namespace {
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Holds it open, and names it for other processes.
    file: File,
}

impl Namespace {
    /// A new one in which only the loopback is up.
    ///
    /// # Errors
    /// The kernel refuses it: this needs root.
    pub fn new() -> Result<Self> {
        // One job at a time: whoever asks waits for its end.
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        let (made, is_made) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("namespace".into()).spawn(move || {
            let file = unshare().and_then(|()| Ok(File::open("/proc/thread-self/ns/net")?));
            let failed = file.is_err();
            if made.send(file).is_ok() && !failed {
                queue.into_iter().for_each(|job| job());
            }
        })?;
        let file = is_made.recv().context("the thread of a namespace ended")??;
        let namespace = Self { jobs: Some(jobs), thread: Some(thread), file };
        namespace.tool(Tool::Ip, &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// What `job` gives, done inside.
    ///
    /// # Errors
    /// An earlier job panicked.
    pub fn enter<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || drop(done.send(job())));
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).context("the namespace is gone")?;
        result.recv().context("a job in the namespace panicked")
    }

    /// The output of `command`, run inside.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(&self, mut command: Command) -> Result<Output> {
        self.enter(move || command.output().with_context(|| format!("start {command:?}")))?
    }

    /// Runs a tool of the network inside.
    ///
    /// # Errors
    /// It fails; the error has its words.
    pub fn tool(&self, tool: Tool, arguments: &[&str]) -> Result<()> {
        let mut command = tool.command()?;
        command.args(arguments);
        let output = self.output(command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{tool:?} {}: {said}", arguments.join(" "));
        Ok(())
    }

    /// A cable to `other`: the interface `name` here, and its other end under the same name there, each with its
    /// addresses (`10.0.0.1/24`).
    ///
    /// # Errors
    /// An address is malformed, or the name is taken.
    pub fn connect(&self, other: &Self, name: &str, here: &[&str], there: &[&str]) -> Result<()> {
        let at = format!("/proc/{}/fd/{}", std::process::id(), other.file.as_raw_fd());
        self.tool(Tool::Ip, &["link", "add", name, "type", "veth", "peer", "name", name, "netns", &at])?;
        for (namespace, addresses) in [(self, here), (other, there)] {
            for address in addresses {
                // Without the wait for another one that has the same: there is none.
                let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
                namespace.tool(Tool::Ip, &[&["address", "add", address, "dev", name], nodad].concat())?;
            }
            namespace.tool(Tool::Ip, &["link", "set", name, "up"])?;
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[allow(unsafe_code, reason = "the safe form is in a part of rustix that nothing else needs")]
fn unshare() -> Result<()> {
    // SAFETY: it moves the calling thread alone, which shares no sockets by name with any other.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    ensure!(result == 0, "a network namespace needs root: {}", std::io::Error::last_os_error());
    Ok(())
}
