//! Open files that systemd hands over at the start of the process: sd_listen_fds(3).

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first one that is handed over. sd-daemon.h
const FIRST: RawFd = 3;
/// Of more than this something else is meant: there are two doors.
const MOST: RawFd = 16;

/// The files that are meant for this very process; none without systemd, and none at a second call.
///
/// # Errors
/// If what systemd says does not hold.
pub fn inherited() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name| std::env::var(name).ok()?.parse::<RawFd>().ok();
    // A child of the process that they were meant for sees the variables too.
    let ours = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    let count = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0);
    if count <= 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    if count > MOST {
        return Err(io::Error::other(format!("LISTEN_FDS={count}: at most {MOST} sockets are taken")));
    }
    (FIRST..FIRST + count).map(take).collect()
}

fn take(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl has no memory to be wrong about.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(error.kind(), format!("file {fd} of LISTEN_FDS: {error}")));
    }
    // SAFETY: it is open, was made for us before we began, and this is called once.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}
