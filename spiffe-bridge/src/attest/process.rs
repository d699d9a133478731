//! A process at the other end of a connection, held so that its pid cannot come to mean another.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cgroup::{self, Cgroups};
use super::proc::{self, Credentials, Image, Namespaces};
use super::{AttestError, Changed, ProcessKey};

/// What the kernel shows for a user or group that the server's user namespace does not have.
pub(super) const OVERFLOW_ID: u32 = 65534;

/// Clock ticks in a second, as /proc counts them on every architecture of ours (USER_HZ).
const TICKS: u64 = 100;

/// A process that connected, as the kernel told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id in the server's PID namespace.
    pub pid: u32,
    /// Its effective user when it connected.
    pub uid: u32,
    /// Its effective group when it connected.
    pub gid: u32,
    pidfd: Arc<OwnedFd>,
    /// In clock ticks since boot. Tells the processes apart that have had one pid.
    start_time: u64,
}

impl Process {
    /// The process of a peer: `pid`, `uid`, `gid` from SO_PEERCRED, `pidfd` from SO_PEERPIDFD.
    ///
    /// Without a pidfd (kernels before 6.5) one is opened by pid: a process that died since it
    /// connected, and whose pid is taken already, is then taken for its successor. The check of the
    /// user and group stands against that alone.
    ///
    /// # Errors
    /// [`AttestError`] if the process is not visible, has ids without meaning, or is gone.
    pub fn from_peer(pid: u32, uid: u32, gid: u32, pidfd: Option<Arc<OwnedFd>>) -> Result<Self, AttestError> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(AttestError::NotVisible)?;
        for id in [uid, gid] {
            if id == OVERFLOW_ID || id == u32::MAX {
                return Err(AttestError::Unmapped { id });
            }
        }
        let pidfd = match pidfd {
            Some(pidfd) => pidfd,
            None => {
                let opened = pidfd_open(raw, PidfdFlags::empty());
                Arc::new(opened.map_err(|e| of(pid, "the pidfd", e.into()))?)
            }
        };
        let start_time = proc::stat(pid).map_err(|e| of(pid, "/proc/PID/stat", e))?.start_time;
        let process = Self { pid, uid, gid, pidfd, start_time };
        process.alive()?;
        Ok(process)
    }

    /// The process that has `pid` now, with the user and group that it has now: to answer a question about it. Who
    /// connected is known from [`Process::from_peer`] alone.
    ///
    /// # Errors
    /// [`AttestError`], as there.
    pub fn by_pid(pid: u32) -> Result<Self, AttestError> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(AttestError::NotVisible)?;
        // Held first: what is read then is of the one that is held, or it is gone when the reading is done.
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|error| match error {
            // A thread that is no process, as older kernels say it. pidfd_open(2)
            rustix::io::Errno::INVAL => AttestError::Changed(Changed::Exited),
            error => of(pid, "the pidfd", error.into()),
        })?;
        let Credentials { uid, gid, .. } =
            proc::credentials(pid).map_err(|e| of(pid, "/proc/PID/status", e))?;
        Self::from_peer(pid, uid, gid, Some(Arc::new(pidfd)))
    }

    /// Whether the pids that the process `pid` knows others by are those of this server: whether it is in the PID
    /// namespace whose /proc the server reads. A process never changes it.
    ///
    /// # Errors
    /// It is gone, or /proc does not show it.
    pub fn shares_pids(pid: u32) -> io::Result<bool> {
        proc::is_in_our_pid_namespace(pid)
    }

    /// What names it for ever.
    #[must_use]
    pub fn key(&self) -> ProcessKey {
        ProcessKey::of(self.pid, self.start_time)
    }

    /// Becomes readable when the process exits.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Refuses a process that has exited, reaped or not.
    pub(super) fn alive(&self) -> Result<(), AttestError> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) => Ok(()),
            Ok(_) => Err(AttestError::Changed(Changed::Exited)),
            Err(e) => Err(of(self.pid, "the pidfd", e.into())),
        }
    }

    /// Its credentials now.
    ///
    /// Refuses those that are not the ones it connected with.
    pub(super) fn credentials(&self) -> Result<Credentials, AttestError> {
        let credentials = proc::credentials(self.pid).map_err(|e| self.failed("/proc/PID/status", e))?;
        if (credentials.uid, credentials.gid) == (self.uid, self.gid) {
            return Ok(credentials);
        }
        self.alive()?;
        Err(AttestError::Changed(Changed::Credentials))
    }

    /// What tells one program that it runs from the next.
    pub(super) fn image(&self) -> Result<Image, AttestError> {
        let stat = proc::stat(self.pid).map_err(|e| self.failed("/proc/PID/stat", e))?;
        if stat.start_time != self.start_time {
            return Err(AttestError::Changed(Changed::Exited)); // Its pid is another's now.
        }
        let executable = proc::executable(self.pid).map_err(|e| self.failed("/proc/PID/exe", e))?;
        Ok(Image { executable, layout: stat.layout })
    }

    /// Where it stands in the cgroup hierarchies now.
    pub(super) fn cgroups(&self) -> Result<Cgroups, AttestError> {
        cgroup::of(self.pid).map_err(|e| self.failed("/proc/PID/cgroup", e))
    }

    /// When it began, by the clock of today; `None` if the kernel does not say.
    pub(super) fn began(&self) -> Option<SystemTime> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let up = Duration::try_from_secs_f64(uptime.split(' ').next()?.parse().ok()?).ok()?;
        let at = Duration::from_millis(self.start_time.checked_mul(1000 / TICKS)?);
        SystemTime::now().checked_sub(up)?.checked_add(at)
    }

    pub(super) fn namespaces(&self) -> Result<Namespaces, AttestError> {
        proc::namespaces(self.pid).map_err(|e| self.failed("/proc/PID/ns", e))
    }

    /// A read that failed: because the process is gone, or for a reason that says nothing about it.
    pub(super) fn failed(&self, what: &'static str, source: io::Error) -> AttestError {
        match self.alive() {
            Err(gone) => gone,
            Ok(()) => AttestError::Unknown { what, pid: self.pid, source },
        }
    }
}

/// As [`Process::failed`], where there is no pidfd yet.
fn of(pid: u32, what: &'static str, source: io::Error) -> AttestError {
    match source.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => AttestError::Changed(Changed::Exited),
        _ => AttestError::Unknown { what, pid, source },
    }
}
