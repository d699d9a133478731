//! What the process gives up at start, and how many files it may open.

use std::fs::File;
use std::os::fd::RawFd;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Why the process could not be hardened.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    /// A core dump would hold keys.
    #[error("cannot switch core dumps off")]
    CoreDumps(#[source] rustix::io::Errno),
    /// Another process of the same user could read our memory.
    #[error("cannot make the process undumpable")]
    Dumpable(#[source] rustix::io::Errno),
}

/// Switches core dumps off, shuts our memory to other processes of our user (no ptrace, no
/// /proc/PID/mem), and raises the soft limit of open files to the hard one, with a
/// table to match. Call it before a key is read.
///
/// # Errors
/// [`HardeningError`]; a limit of open files that cannot be raised is no error.
pub fn harden() -> Result<(), HardeningError> {
    // Both: the limit is inherited by children, and a core_pattern that pipes ignores the limit.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(HardeningError::CoreDumps)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(HardeningError::Dumpable)?;

    let files = getrlimit(Resource::Nofile);
    if files.current != files.maximum {
        let raised = Rlimit { current: files.maximum, maximum: files.maximum };
        if let Err(errno) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%errno, "the limit of open files could not be raised");
        }
    }
    widen_table();
    Ok(())
}

/// The table of open files is made large enough for most servers: it grows by doubling, and whoever opens the file for
/// which it grows waits some milliseconds for all others (RCU), as when the connections of a crowd are accepted.
fn widen_table() {
    const MOST: u64 = 1 << 15;
    let highest = open_files().min(MOST).checked_sub(1).and_then(|file| RawFd::try_from(file).ok());
    // That it cannot be had costs nothing but the time.
    if let (Some(highest), Ok(any)) = (highest, File::open("/dev/null")) {
        let _closed_again = fcntl_dupfd_cloexec(&any, highest);
    }
}

/// How many files this process may have open.
#[must_use]
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
