//! `unix:` selectors: what the kernel tells of a process on this machine.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;

use crate::attest::executable::Hashes;
use crate::attest::proc::Credentials;
use crate::attest::process::{OVERFLOW_ID, Process};
use crate::attest::{AttestError, Missing, names};
use crate::identity::{Selector, SelectorSet};
use crate::registration::Needs;

/// The supplementary groups whose names are looked up: a process may have 65,536, and a directory server behind them.
const NAMED_GROUPS: usize = 256;

/// What a process has. The caller checks afterwards that it was this process all the while.
pub(in crate::attest) fn selectors(
    process: &Process,
    credentials: &Credentials,
    needs: Needs,
    hashes: &Hashes,
) -> Result<(SelectorSet, Vec<Missing>), AttestError> {
    let mut selectors = SelectorSet::new();
    let mut missing = Vec::new();
    let mut add = |key, value: &dyn std::fmt::Display| {
        selectors.insert(Selector::new("unix", key, value));
    };
    add("uid", &credentials.uid);
    add("gid", &credentials.gid);
    if needs.names {
        if let Some(name) = names::user(credentials.uid) {
            add("user", &name);
        }
        if let Some(name) = names::group(credentials.gid) {
            add("group", &name);
        }
    }
    let mapped = credentials.groups.iter().filter(|gid| !matches!(**gid, OVERFLOW_ID | u32::MAX));
    for (n, gid) in mapped.enumerate() {
        add("supplementary_gid", gid);
        if let Some(name) =
            Some(gid).filter(|_| needs.names && n < NAMED_GROUPS).and_then(|gid| names::group(*gid))
        {
            add("supplementary_group", &name);
        }
    }
    if needs.path {
        match path(process)? {
            Some(path) => add("path", &path),
            None => missing.push(Missing::NoPath),
        }
    }
    if needs.sha256 {
        // Opened through /proc: this is the file that runs, whatever lies under its name by now.
        let file = File::open(format!("/proc/{}/exe", process.pid));
        let hash = file.and_then(|file| hashes.of(&file));
        match hash.map_err(|e| process.failed("/proc/PID/exe", e))? {
            Ok(hash) => add("sha256", &hash),
            Err(reason) => missing.push(reason),
        }
    }
    Ok((selectors, missing))
}

/// The path of the executable, as seen from our root.
fn path(process: &Process) -> Result<Option<String>, AttestError> {
    let path = fs::read_link(format!("/proc/{}/exe", process.pid));
    let path = path.map_err(|e| process.failed("/proc/PID/exe", e))?;
    let text = str::from_utf8(path.as_os_str().as_bytes()).ok();
    // proc_pid_exe(5): a deleted file shows so; one outside of our root has no leading slash.
    let good = |path: &&str| {
        path.starts_with('/') && !path.ends_with(" (deleted)") && !path.chars().any(char::is_control)
    };
    Ok(text.filter(good).map(str::to_owned))
}
