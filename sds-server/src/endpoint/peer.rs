//! Who is at the other end of a Unix connection, as the kernel recorded it at connect.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

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

impl Credentials {
    /// Asks the kernel about the other end of `stream`.
    ///
    /// # Errors
    /// If it has none to tell.
    pub fn of(stream: &impl AsRawFd) -> io::Result<Self> {
        let none = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let told = socket_option(stream.as_raw_fd(), libc::SO_PEERCRED, none)?;
        // A process that our PID namespace does not show has 0.
        Ok(Self { pid: u32::try_from(told.pid).unwrap_or(0), uid: told.uid, gid: told.gid })
    }
}

/// For a line of a log.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}, uid {}", self.pid, self.uid)
    }
}

/// The pidfds of the processes that are connected: one a process, however many connections it has.
///
/// In parts with a lock each, held for a moment: a process that connects again and again keeps one of them busy, and the
/// thread that holds a lock may be interrupted.
#[derive(Debug)]
pub struct Processes {
    parts: [Mutex<Held>; 63],
    rest: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_pid: HashMap<u32, Weak<OwnedFd>>,
    /// When the map is as long as this, what is gone is dropped from it.
    sweep_at: usize,
}

impl Default for Processes {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Mutex::default()), rest: Mutex::default() }
    }
}

impl Processes {
    /// The pidfd to hold for `pid`: the one that is held already, or `new`. Both processes have had this pid, so if
    /// both live, they are one.
    fn share(&self, pid: u32, new: OwnedFd) -> Arc<OwnedFd> {
        let held = self.part(pid).by_pid.get(&pid).and_then(Weak::upgrade);
        if let Some(held) = held
            && lives(&held)
            && lives(&new)
        {
            return held;
        }
        let new = Arc::new(new);
        let mut part = self.part(pid);
        part.by_pid.insert(pid, Arc::downgrade(&new));
        if part.by_pid.len() > part.sweep_at {
            part.by_pid.retain(|_, held| held.strong_count() > 0);
            part.sweep_at = part.by_pid.len() * 2 + 16;
        }
        new
    }

    fn part(&self, pid: u32) -> MutexGuard<'_, Held> {
        // The last bits tell processes apart that were started one after the other.
        let at = usize::try_from(pid % 64).unwrap_or_default();
        self.parts.get(at).unwrap_or(&self.rest).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pidfd becomes readable when its process exits.
fn lives(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
}

impl Peer {
    /// Asks the kernel about the other end of `stream`, and has it hold the process.
    ///
    /// # Errors
    /// If it has no credentials to tell, or is gone.
    pub fn of(stream: &impl AsRawFd) -> io::Result<Self> {
        Self::hold(stream, Credentials::of(stream)?)
    }

    /// The same where the credentials of the other end are known.
    ///
    /// # Errors
    /// If it is gone.
    pub fn hold(stream: &impl AsRawFd, credentials: Credentials) -> io::Result<Self> {
        let Credentials { pid, uid, gid } = credentials;
        Ok(Self { pid, uid, gid, pidfd: peer_pidfd(stream.as_raw_fd())?.map(Arc::new) })
    }

    /// Holds the pidfd that is held for this process already, if one is.
    #[must_use]
    pub fn shared(mut self, processes: &Processes) -> Self {
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
    match socket_option::<libc::c_int>(socket, SO_PEERPIDFD, -1) {
        // SAFETY: the kernel has just made this descriptor (close-on-exec) for us, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Ok(_) => Ok(None),
        Err(error) if may_go_without(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A socket's `option`, which the kernel writes over `value`: `T` is what it writes.
fn socket_option<T: Copy>(socket: RawFd, option: libc::c_int, mut value: T) -> io::Result<T> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let into = (&raw mut value).cast::<libc::c_void>();
    // SAFETY: `value` and `length` are ours, live across the call, and `length` tells the size of `value`, of which every
    // bit pattern that the kernel may write is one.
    let result = unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, option, into, &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
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
