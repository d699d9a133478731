//! What this server cannot see of its callers, to be told at start and not by failures later.

use std::path::Path;

use super::proc::{self, Namespaces};

/// The initial namespaces have fixed inode numbers (include/uapi/linux/nsfs.h).
const INITIAL_USER: u64 = 0xeffffffd;
const INITIAL_PID: u64 = 0xeffffffc;
/// capabilities(7)
const CAP_SYS_PTRACE: u32 = 19;

/// Something that the server lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limitation {
    /// Callers outside of its PID namespace have pid 0.
    #[error("not in the host's PID namespace: processes outside of it are refused (hostPID, --pid=host)")]
    PidNamespace,
    /// User ids mean those of the namespace.
    #[error("not in the host's user namespace: unix:uid and the like mean the ids of this namespace")]
    UserNamespace,
    /// No look into the processes of others.
    #[error("no CAP_SYS_PTRACE: processes of other users are refused")]
    OwnProcessesOnly,
    /// /proc hides processes.
    #[error(
        "/proc hides the processes of other users (hidepid): they are refused; mount it with hidepid=0 or gid="
    )]
    HidePid,
    /// /proc is not there.
    #[error("/proc cannot be read: no process can be attested")]
    NoProc,
}

pub(super) fn find(own: Option<&Namespaces>) -> Vec<Limitation> {
    let Some(own) = own else { return vec![Limitation::NoProc] };
    let own_pid = proc::namespace(std::process::id(), "pid");
    let found = [
        (own_pid.map_or(true, |(_, inode)| inode != INITIAL_PID), Limitation::PidNamespace),
        (own.user.1 != INITIAL_USER, Limitation::UserNamespace),
        (!may_trace(), Limitation::OwnProcessesOnly),
        (!Path::new("/proc/1/stat").exists(), Limitation::HidePid),
    ];
    found.into_iter().filter_map(|(lacks, limitation)| lacks.then_some(limitation)).collect()
}

fn may_trace() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> CAP_SYS_PTRACE & 1 == 1)
}
