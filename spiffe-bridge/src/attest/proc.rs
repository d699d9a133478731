//! /proc/PID, read: stat, status, exe and ns. proc(5). What it says is of whoever has the pid just then.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

/// What such a file has, and what it has at most: 65,536 groups (NGROUPS_MAX) of ten digits.
const USUAL_BYTES: usize = 4096;
const MOST_BYTES: u64 = 1 << 20;

/// Device and inode.
pub(super) type File = (u64, u64);

/// Effective user and group, and the supplementary groups, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// A program as it was put into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) executable: File,
    pub(super) layout: Layout,
}

/// Where execve put code, stack and arguments: each exec draws the places anew (ASLR), of the same binary too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    code: u64,
    stack: u64,
    arguments: u64,
}

#[derive(Debug)]
pub(super) struct Stat {
    pub(super) start_time: u64,
    pub(super) layout: Layout,
}

/// Those in which ids and paths mean what they mean to us, or do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Namespaces {
    pub(super) user: File,
    pub(super) mount: File,
}

pub(super) fn stat(pid: u32) -> io::Result<Stat> {
    parse_stat(&read(pid, "stat")?).ok_or_else(unexpected)
}

pub(super) fn credentials(pid: u32) -> io::Result<Credentials> {
    parse_status(&read(pid, "status")?).ok_or_else(unexpected)
}

/// Whether a process has one pid alone, from the namespace of this /proc on inwards. proc_pid_status(5), `NSpid`.
pub(super) fn is_in_our_pid_namespace(pid: u32) -> io::Result<bool> {
    has_one_pid(&read(pid, "status")?).ok_or_else(unexpected)
}

/// The file that is executed, whatever its name is now.
pub(super) fn executable(pid: u32) -> io::Result<File> {
    identify(&format!("/proc/{pid}/exe"))
}

pub(super) fn namespaces(pid: u32) -> io::Result<Namespaces> {
    Ok(Namespaces { user: namespace(pid, "user")?, mount: namespace(pid, "mnt")? })
}

/// The namespace of one kind that a process is in.
pub(super) fn namespace(pid: u32, kind: &str) -> io::Result<File> {
    identify(&format!("/proc/{pid}/ns/{kind}"))
}

fn identify(path: &str) -> io::Result<File> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// The text of a file in /proc/PID. Names in it are the process's own choice, and may be any bytes.
fn read(pid: u32, file: &str) -> io::Result<String> {
    // `fs::read` would ask for the size of each first, which is 0.
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    fs::File::open(format!("/proc/{pid}/{file}"))?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not in the form that proc(5) describes")
}

/// proc_pid_stat(5), fields 22, 26, 28 and 48.
fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the process's name in parentheses, which may hold any character: the last ')' ends it.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let layout = Layout { code: field(26)?, stack: field(28)?, arguments: field(48)? };
    Some(Stat { start_time: field(22)?, layout })
}

/// proc_pid_status(5): `Uid` and `Gid` are real, effective, saved and file system ids.
fn parse_status(text: &str) -> Option<Credentials> {
    let line = |key: &str| line(text, key);
    let effective = |key| line(key)?.split_ascii_whitespace().nth(1)?.parse().ok();
    let groups = line("Groups")?.split_ascii_whitespace().map(|id| id.parse().ok());
    let mut groups: Vec<u32> = groups.collect::<Option<_>>()?;
    groups.sort_unstable();
    Some(Credentials { uid: effective("Uid")?, gid: effective("Gid")?, groups })
}

fn has_one_pid(text: &str) -> Option<bool> {
    let mut pids = line(text, "NSpid")?.split_ascii_whitespace();
    Some(pids.next().is_some() && pids.next().is_none())
}

/// The first line is the process's name, with line ends escaped: it cannot pass for another line.
fn line<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let numbers: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        for name in ["sh", "a) R 1 (b", ")", "with space"] {
            let stat = parse_stat(&format!("7 ({name}) S {}", numbers.join(" "))).unwrap();
            assert_eq!(stat.start_time, 22);
            assert_eq!(stat.layout, Layout { code: 26, stack: 28, arguments: 48 });
        }
        assert!(parse_stat("7 (sh) S 1 2").is_none());
        assert!(parse_stat("").is_none());
    }

    #[test]
    fn a_process_of_an_inner_namespace_has_more_pids_than_one() {
        assert_eq!(has_one_pid("Name:\tx\nNSpid:\t4711\n"), Some(true));
        assert_eq!(has_one_pid("Name:\tx\nNSpid:\t4711\t7\n"), Some(false));
        assert_eq!(has_one_pid("Name:\tx\n"), None);
        assert!(is_in_our_pid_namespace(std::process::id()).unwrap());
    }

    #[test]
    fn credentials_are_the_effective_ones() {
        let text = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t30 10 20 \n";
        let expected = Credentials { uid: 2, gid: 6, groups: vec![10, 20, 30] };
        assert_eq!(parse_status(text), Some(expected));
        assert_eq!(parse_status("Name:\tx\nUid:\t1\t2\t3\t4\n"), None);
    }
}
