//! A server whose sockets somebody else made, as systemd does: sd_listen_fds(3).

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use rustix::io::fcntl_dupfd_cloexec;

use crate::process::Process;

/// Above all that a child has open of itself.
const CLEAR: RawFd = 100;
/// SD_LISTEN_FDS_START
const FIRST: RawFd = 3;

/// Starts `program` with `sockets` as its files from 3 on.
#[allow(unsafe_code, reason = "pre_exec has no safe form")]
pub(super) fn launch(
    program: &Path,
    arguments: &[String],
    sockets: &[OwnedFd],
    log: &Path,
) -> Result<Process> {
    let mut command = Command::new("sh");
    // The variable names the process that the sockets are for: the shell, and what it becomes.
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(program).args(arguments);
    command.env("LISTEN_FDS", sockets.len().to_string());
    let held = sockets.iter().map(|socket| fcntl_dupfd_cloexec(socket, CLEAR));
    let held: Vec<OwnedFd> = held.collect::<Result<_, _>>()?;
    // SAFETY: between fork and exec the closure makes system calls and touches no memory that others write.
    unsafe {
        command.pre_exec(move || {
            for (to, socket) in (FIRST..).zip(&held) {
                if libc::dup2(socket.as_raw_fd(), to) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    Process::spawn("countersign", command, None, log)
}
