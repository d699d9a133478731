//! What names one process for ever: a boot, a pid and the tick it started in. It outlives a restart of the server,
//! which a pidfd does not.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;
use std::sync::OnceLock;

use super::proc;

/// One process of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// `/proc/sys/kernel/random/boot_id`, without its dashes; 0 if there is none.
    boot: u128,
    /// In the server's PID namespace.
    pid: u32,
    /// Clock ticks from boot to its start. proc_pid_stat(5), field 22.
    start: u64,
}

/// A text is no process key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a process key: BOOT-PID-START, the first in hexadecimal")]
pub struct NotAKey;

impl ProcessKey {
    /// The key of the process of this boot that has `pid` and started at `start`.
    pub(super) fn of(pid: u32, start: u64) -> Self {
        Self { boot: boot(), pid, start }
    }

    /// The key of the process that has `pid` now.
    ///
    /// # Errors
    /// It is gone, or /proc does not show it.
    pub fn of_pid(pid: u32) -> io::Result<Self> {
        Ok(Self::of(pid, proc::stat(pid)?.start_time))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the process is certainly gone: another boot, no such pid, or another process under it. What cannot be
    /// read proves nothing.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        if self.boot != boot() {
            return true;
        }
        match proc::stat(self.pid) {
            Ok(stat) => stat.start_time != self.start,
            Err(error) => matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
        }
    }
}

fn boot() -> u128 {
    static BOOT: OnceLock<u128> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or_default()
    })
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}-{}", self.boot, self.pid, self.start)
    }
}

impl FromStr for ProcessKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().ok_or(NotAKey);
        let boot = u128::from_str_radix(next()?, 16).map_err(|_| NotAKey)?;
        let pid = next()?.parse().map_err(|_| NotAKey)?;
        let start = next()?.parse().map_err(|_| NotAKey)?;
        Ok(Self { boot, pid, start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_process_and_prints_what_it_reads() {
        let own = ProcessKey::of_pid(std::process::id()).unwrap();
        assert!(!own.is_gone());
        assert_eq!(own.to_string().parse(), Ok(own));
        assert!(ProcessKey { start: own.start + 1, ..own }.is_gone(), "another process under the same pid");
        assert!(ProcessKey { boot: own.boot ^ 1, ..own }.is_gone(), "another boot");
        for text in ["", "1-2", "x-1-2", "1-2-3-4"] {
            assert_eq!(text.parse::<ProcessKey>(), Err(NotAKey), "{text}");
        }
    }
}
