//! Who may trace the server or take its files: no process of its user, not even the one that started it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::ffi::c_void;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use integration::scratch::Scratch;
use integration::seats::{self, Seats};
use integration::server;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

const LINE: &str = "COUNTERSIGN_TEST_LINE";
const NOBODY: u32 = 65_534;

/// Not a test of its own: starts a program, and tries each way there is to see into it once it says that it is ready. A
/// parent, since Yama lets nobody else.
#[test]
fn helper_parent() {
    let Ok(line) = std::env::var(LINE) else { return };
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    while said.next().expect("it ended").unwrap() != "ready" {}
    let pid = i32::try_from(child.id()).unwrap();
    let mut open = Vec::new();
    for (way, tried) in [
        ("memory", read(pid)),
        ("files", files(pid)),
        ("attach", trace(pid, libc::PTRACE_ATTACH)),
        ("seize", trace(pid, libc::PTRACE_SEIZE)),
    ] {
        match tried.map_err(|error| error.raw_os_error()) {
            Ok(()) => open.push(way),
            Err(Some(libc::EPERM)) => {}
            Err(other) => panic!("{way}: {other:?}"),
        }
    }
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    println!("\nalive: {alive}, open: {open:?}");
}

fn last(result: i64) -> std::io::Result<()> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Becomes its tracer, and lets go of it. The calling thread is the tracer.
#[allow(unsafe_code, reason = "there is no safe form of ptrace")]
fn trace(pid: i32, request: libc::c_uint) -> std::io::Result<()> {
    let nothing = std::ptr::null_mut::<c_void>();
    // SAFETY: no request reads or writes memory of this process.
    let call = |request| last(unsafe { libc::ptrace(request, pid, nothing, nothing) });
    call(request)?;
    if request == libc::PTRACE_SEIZE {
        call(libc::PTRACE_INTERRUPT)?;
    }
    // SAFETY: nobody asks for the status.
    last(i64::from(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }))?;
    call(libc::PTRACE_DETACH)
}

/// Reads a byte of its memory, which need not be there: who may not look is not told so.
#[allow(unsafe_code, reason = "rustix has no process_vm_readv")]
fn read(pid: i32) -> std::io::Result<()> {
    let mut byte = 0_u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(4096), iov_len: 1 };
    // SAFETY: at most a byte is written, to `byte`.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match last(read as i64) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other,
    }
}

/// Takes a copy of one of its files: of a socket that it listens on, of a connection, of a key.
fn files(pid: i32) -> std::io::Result<()> {
    let process = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty())?;
    pidfd_getfd(process, 1, PidfdGetfdFlags::empty())?;
    Ok(())
}

/// What a process of `uid` finds open that started `line`.
fn found(scratch: &Scratch, uid: Option<u32>, line: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let mut parent = Command::new(seats::runnable(scratch, "parent", &program).unwrap());
    parent.args(["helper_parent", "--exact", "--nocapture"]).env(LINE, line);
    if let Some(uid) = uid {
        parent.uid(uid).gid(uid);
    }
    let said = parent.current_dir(scratch.path().join("home")).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.lines().find(|line| line.starts_with("alive")).unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_server_is_not_traced_by_a_process_of_its_user_and_not_by_its_parent() {
    let scratch = Scratch::new().unwrap();
    let uid = (Seats::here() == Seats::Users).then_some(NOBODY);
    scratch.dir("home", uid).unwrap();
    // That a process can be traced at all is shown by one without such precautions.
    let plain = scratch.path().join("plain");
    std::fs::write(&plain, "echo ready; exec sleep 60").unwrap();
    assert_eq!(
        found(&scratch, uid, &format!("sh {}", plain.display())),
        r#"alive: true, open: ["memory", "files", "attach", "seize"]"#
    );
    let program = seats::runnable(&scratch, "countersign", server::built().unwrap()).unwrap();
    let arguments = "serve --init --trust-domain example.org --data data --entries . --socket api.sock";
    assert_eq!(found(&scratch, uid, &format!("{} {arguments}", program.display())), "alive: true, open: []");
}
