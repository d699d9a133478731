//! Who is at the other end of a Unix connection, as the kernel recorded it at connect.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::UnixStream;

/// `SO_PEERPIDFD`, Linux 6.5. Of asm-generic; the architectures with numbers of their own
/// (parisc, sparc) are not ours.
const SO_PEERPIDFD: libc::c_int = 77;

/// The process that connected. Its credentials are those of connect(2), not of now.
#[derive(Debug)]
pub struct Peer {
    /// Process id in our PID namespace; 0 if it has none there.
    pub pid: u32,
    /// Effective user id in our user namespace.
    pub uid: u32,
    /// Effective group id in our user namespace.
    pub gid: u32,
    /// Stands for that very process, even after its pid is used again. `None` on kernels before 6.5.
    pub pidfd: Option<Arc<OwnedFd>>,
}

/// Who connected, without a hold on the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Peer")]
pub struct Credentials {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

/// For a line of a log.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}, uid {}", self.pid, self.uid)
    }
}

/// The pidfds of the processes that are connected: one a process, however many connections it has.
#[derive(Debug, Default)]
pub struct Processes {
    by_pid: HashMap<u32, Weak<OwnedFd>>,
    /// When the map is as long as this, what is gone is dropped from it.
    sweep_at: usize,
}

impl Processes {
    /// The pidfd to hold for `pid`: the one that is held already, or `new`. Both processes have had this pid, so if
    /// both live, they are one.
    fn share(&mut self, pid: u32, new: OwnedFd) -> Arc<OwnedFd> {
        let held = self.by_pid.get(&pid).and_then(Weak::upgrade);
        if let Some(held) = held
            && lives(&held)
            && lives(&new)
        {
            return held;
        }
        let new = Arc::new(new);
        self.by_pid.insert(pid, Arc::downgrade(&new));
        if self.by_pid.len() > self.sweep_at {
            self.by_pid.retain(|_, held| held.strong_count() > 0);
            self.sweep_at = self.by_pid.len() * 2 + 64;
        }
        new
    }
}

/// A pidfd becomes readable when its process exits.
fn lives(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
}

impl Peer {
    /// Asks the kernel about the other end of `stream`.
    ///
    /// # Errors
    /// If it has no credentials to tell, or is gone.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let pidfd = peer_pidfd(stream.as_raw_fd())?.map(Arc::new);
        Ok(Self { pid, uid: credentials.uid(), gid: credentials.gid(), pidfd })
    }

    /// Who it is, without a hold on it.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials { pid: self.pid, uid: self.uid, gid: self.gid }
    }

    /// Holds the pidfd that is held for this process already, if one is.
    #[must_use]
    pub fn shared(mut self, processes: &mut Processes) -> Self {
        let own = self.pidfd.take().map(Arc::try_unwrap);
        self.pidfd = own.map(|own| own.map_or_else(|shared| shared, |own| processes.share(self.pid, own)));
        self
    }

    /// The files that a connection of this peer holds: its own, and its pidfd if no other connection has it.
    #[must_use]
    pub fn files(&self) -> u32 {
        // The one count is ours.
        if self.pidfd.as_ref().is_none_or(|pidfd| Arc::strong_count(pidfd) == 1) { 2 } else { 1 }
    }
}

fn peer_pidfd(socket: RawFd) -> io::Result<Option<OwnedFd>> {
    let mut fd: libc::c_int = -1;
    let mut len = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: `fd` and `len` are ours, live across the call, and `len` tells the size of `fd`.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast::<libc::c_void>(),
            &raw mut len,
        )
    };
    if result == 0 && fd >= 0 {
        // SAFETY: the kernel has just made this descriptor (close-on-exec) for us, and nobody else knows it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    let error = io::Error::last_os_error();
    if may_go_without(&error) { Ok(None) } else { Err(error) }
}

/// Whether a peer without a pidfd is served: where the kernel has none to give, or no pid either, which is refused
/// later. Not a peer that is gone (ESRCH, before 6.16 also EINVAL): its pid may be another's by now, and that one would
/// be taken for who connected.
fn may_go_without(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOPROTOOPT | libc::ENODATA))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_gone_is_refused_and_not_looked_up_by_its_pid() {
        let may = |number| may_go_without(&io::Error::from_raw_os_error(number));
        assert!(may(libc::ENOPROTOOPT) && may(libc::ENODATA));
        assert!(!may(libc::ESRCH) && !may(libc::EINVAL) && !may(libc::EMFILE));
    }
}
