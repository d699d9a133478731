//! Attestation of real processes: those that live, die, execute, change their credentials or sit in another namespace.
//! Needs root, as the server does that attests others' processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spiffe_bridge::attest::{
    AttestError, Attestation, Attestor, Changed, Config, Limitation, Missing, Process,
};
use spiffe_bridge::registration::Needs;

const ALL: Needs = Needs::ALL;
const NONE: Needs = Needs::NONE;

/// A child that says that it is there, then waits for a line; killed when dropped.
struct Running(Child);

/// A binary that was just copied is busy while a child that another test forks meanwhile, and that has not yet
/// executed its program, holds the descriptor through which it was written.
fn spawn(command: &mut Command) -> Child {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match command.spawn() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            spawned => return spawned.unwrap(),
        }
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let out = child.stdout.as_mut().unwrap();
        let said = BufReader::new(out).lines().map_while(Result::ok).find(|line| line.contains("ready"));
        assert!(said.is_some(), "{command:?} did not start");
        Self(child)
    }

    fn shell(script: &str) -> Self {
        Self::start(Command::new("/bin/sh").args(["-c", script]))
    }

    fn process(&self, uid: u32, gid: u32) -> Process {
        Process::from_peer(self.0.id(), uid, gid, None).unwrap()
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test binary as another process, doing what `role` says.
fn helper(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "helper_process", "--nocapture"]).env("HELPER", role);
    command
}

/// Does nothing but in the processes that [`helper`] starts.
#[test]
fn helper_process() {
    let role = std::env::var("HELPER").unwrap_or_default();
    let wait = || {
        println!("\nready");
        let _ = std::io::stdin().read_line(&mut String::new()); // A line: a read would take two at once.
    };
    if let Some(socket) = role.strip_prefix("connect ") {
        let _stream = UnixStream::connect(socket).unwrap();
        wait();
    } else if role == "drop groups" {
        wait();
        // SAFETY: no pointer is followed for an empty list.
        assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
        wait();
    } else if role == "set user" {
        wait();
        // SAFETY: no memory is passed. All threads change, as POSIX has it.
        assert_eq!(unsafe { libc::setresuid(1001, 1001, 1001) }, 0);
        wait();
    } else if let Some(pid) = role.strip_prefix("attest ") {
        let (attestor, limitations) = Attestor::new(Config::default());
        assert_eq!(limitations, [Limitation::OwnProcessesOnly]);
        let other = Process::from_peer(pid.parse().unwrap(), 0, 0, None).unwrap();
        assert!(matches!(attestor.attest(&other, NONE), Err(AttestError::Unknown { .. })));
        let own = Process::from_peer(std::process::id(), 1001, 1001, None).unwrap();
        assert!(!attestor.attest(&own, ALL).unwrap().selectors.is_empty());
        println!("\nunderstood");
    }
}

fn attestor() -> Attestor {
    let (attestor, limitations) = Attestor::new(Config::default());
    let hindering = |l: &&Limitation| !matches!(l, Limitation::PidNamespace | Limitation::UserNamespace);
    assert_eq!(limitations.iter().find(hindering), None, "run these tests as root");
    attestor
}

fn has(attestation: &Attestation, selector: &str) -> bool {
    attestation.selectors.contains(&selector.parse().unwrap())
}

/// What becomes of `process`, within five seconds.
fn change_of(attestor: &Attestor, process: &Process, attestation: &Attestation) -> Option<Changed> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if let Err(changed) = attestor.recheck(process, attestation) {
            return Some(changed);
        }
        std::thread::yield_now();
    }
    None
}

fn sha256(path: &Path) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &fs::read(path).unwrap());
    data_encoding::HEXLOWER.encode(hash.as_ref())
}

#[test]
fn a_process_has_its_ids_names_groups_path_and_hash() {
    let attestor = attestor();
    let mut command = Command::new("/bin/sh");
    // SAFETY: setgroups is safe to call between fork and exec, and the list lives through it.
    unsafe {
        command.pre_exec(|| match libc::setgroups(2, [4u32, 1234].as_ptr()) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let child = Running::start(command.args(["-c", "echo ready; read x"]).gid(1));
    let attestation = attestor.attest(&child.process(0, 1), ALL).unwrap();
    let shell = fs::canonicalize("/bin/sh").unwrap();
    for expected in [
        "unix:uid:0",
        "unix:user:root",
        "unix:gid:1",
        "unix:group:daemon",
        "unix:supplementary_gid:4",
        "unix:supplementary_group:adm",
        "unix:supplementary_gid:1234",
        &format!("unix:path:{}", shell.display()),
        &format!("unix:sha256:{}", sha256(&shell)),
    ] {
        assert!(has(&attestation, expected), "{expected} not in {:?}", attestation.selectors);
    }
    assert_eq!((attestation.selectors.len(), attestation.missing.len()), (9, 0));
    let again = attestor.attest(&child.process(0, 1), NONE).unwrap();
    assert_eq!(again.selectors.len(), 4, "names, path and hash only when asked for: {:?}", again.selectors);
}

#[test]
fn a_peer_of_a_socket_is_attested_by_what_the_kernel_says_of_it() {
    const SO_PEERPIDFD: i32 = 77;
    let attestor = attestor();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let socket = dir.path().join("s");
    let child = Running::start(&mut helper(&format!("connect {}", socket.display())));
    let (stream, _) = listener.accept().unwrap();
    let peer = rustix::net::sockopt::socket_peercred(&stream).unwrap();
    let mut fd = -1;
    let mut size = 4;
    // SAFETY: both pointers are to values of the size that is stated.
    let got = unsafe {
        let fd = std::ptr::from_mut(&mut fd).cast();
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&stream),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            fd,
            &mut size,
        )
    };
    assert_eq!(got, 0, "this kernel has no SO_PEERPIDFD: run the tests on Linux 6.5 or later");
    // SAFETY: the kernel has just made it for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap();
    assert_eq!(pid, child.0.id());
    let process = Process::from_peer(pid, peer.uid.as_raw(), peer.gid.as_raw(), Some(pidfd.into())).unwrap();
    let attestation = attestor.attest(&process, ALL).unwrap();
    let own = std::env::current_exe().unwrap();
    assert!(has(&attestation, &format!("unix:sha256:{}", sha256(&own))));
    attestor.recheck(&process, &attestation).unwrap();
    drop(child);
    assert_eq!(attestor.recheck(&process, &attestation), Err(Changed::Exited));
    assert!(matches!(attestor.attest(&process, NONE), Err(AttestError::Changed(Changed::Exited))));
}

#[test]
fn an_exec_is_noticed_of_another_binary_and_of_the_same() {
    let attestor = attestor();
    for next in ["sleep 60", "/bin/sh -c 'echo ready; read x; read y'"] {
        let mut child = Running::shell(&format!("echo ready; read x; exec {next}"));
        let process = child.process(0, 0);
        let attestation = attestor.attest(&process, ALL).unwrap();
        attestor.recheck(&process, &attestation).unwrap();
        child.go_on();
        assert_eq!(change_of(&attestor, &process, &attestation), Some(Changed::Executed), "{next}");
    }
}

#[test]
fn a_zombie_has_exited() {
    let attestor = attestor();
    let mut child = Running::shell("echo ready; read x");
    let process = child.process(0, 0);
    let attestation = attestor.attest(&process, NONE).unwrap();
    child.go_on();
    assert_eq!(change_of(&attestor, &process, &attestation), Some(Changed::Exited));
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.0.id())).unwrap();
    assert!(stat.contains(") Z "), "{stat}");
    assert!(Process::from_peer(child.0.id(), 0, 0, None).is_err());
}

#[test]
fn another_process_under_the_same_pid_is_another_process() {
    let attestor = attestor();
    let first = Running::shell("echo ready; read x");
    let pid = first.0.id();
    let process = first.process(0, 0);
    let attestation = attestor.attest(&process, NONE).unwrap();
    drop(first);
    // The next process gets the pid after this one, unless somebody is faster.
    let successor = (0..100).find_map(|_| {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let next = Running::shell("echo ready; read x");
        (next.0.id() == pid).then_some(next)
    });
    let successor = successor.expect("the pid is given out again");
    assert!(fs::metadata(format!("/proc/{pid}")).is_ok());
    assert_eq!(attestor.recheck(&process, &attestation), Err(Changed::Exited));
    assert!(attestor.attest(&process, NONE).is_err());
    assert!(attestor.attest(&successor.process(0, 0), NONE).is_ok());
}

#[test]
fn changed_credentials_are_noticed_and_never_those_of_the_connection() {
    let attestor = attestor();
    let mut command = helper("drop groups");
    // SAFETY: as above.
    unsafe {
        command.pre_exec(|| match libc::setgroups(1, [4u32].as_ptr()) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let mut child = Running::start(&mut command);
    let process = child.process(0, 0);
    let attestation = attestor.attest(&process, NONE).unwrap();
    assert!(has(&attestation, "unix:supplementary_gid:4"));
    child.go_on();
    assert_eq!(change_of(&attestor, &process, &attestation), Some(Changed::Credentials));
    let as_another = child.process(1001, 0);
    let refused = attestor.attest(&as_another, NONE).unwrap_err();
    assert!(matches!(refused, AttestError::Changed(Changed::Credentials)), "{refused}");
}

#[test]
fn a_process_that_changes_its_user_in_mid_stream_is_neither_of_the_two() {
    let attestor = attestor();
    let mut child = Running::start(&mut helper("set user"));
    let process = child.process(0, 0);
    let attestation = attestor.attest(&process, NONE).unwrap();
    assert!(has(&attestation, "unix:uid:0"));
    child.go_on();
    assert_eq!(change_of(&attestor, &process, &attestation), Some(Changed::Credentials));
    // Its connection is worth nothing any more, neither as the one that it was nor as the one that it is.
    let refused = attestor.attest(&process, NONE).unwrap_err();
    assert!(matches!(refused, AttestError::Changed(Changed::Credentials)), "{refused}");
}

#[test]
fn a_process_in_another_namespace_gets_no_unix_selectors() {
    let attestor = attestor();
    for how in [&["--user", "--map-root-user"][..], &["--mount"]] {
        let child =
            Running::start(Command::new("unshare").args(how).args(["sh", "-c", "echo ready; read x"]));
        let attestation = attestor.attest(&child.process(0, 0), ALL).unwrap();
        assert!(attestation.selectors.is_empty(), "{how:?}: {:?}", attestation.selectors);
        assert_eq!(attestation.missing, [Missing::OtherNamespace]);
        assert_eq!(attestor.recheck(&child.process(0, 0), &attestation), Ok(()));
    }
}

#[test]
fn ids_without_meaning_are_no_evidence() {
    let own = std::process::id();
    assert!(matches!(Process::from_peer(0, 0, 0, None), Err(AttestError::NotVisible)));
    assert!(matches!(Process::from_peer(u32::MAX, 0, 0, None), Err(AttestError::NotVisible)));
    assert!(matches!(Process::from_peer(own, 65534, 0, None), Err(AttestError::Unmapped { id: 65534 })));
    assert!(matches!(Process::from_peer(own, 0, 65534, None), Err(AttestError::Unmapped { .. })));
    assert!(Process::from_peer(4_194_305, 0, 0, None).is_err());
}

#[test]
fn a_deleted_executable_has_a_hash_and_no_path() {
    let attestor = attestor();
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("shell");
    fs::copy("/bin/sh", &binary).unwrap();
    let child = Running::start(Command::new(&binary).args(["-c", "echo ready; read x"]));
    let process = child.process(0, 0);
    let before = attestor.attest(&process, ALL).unwrap();
    assert!(has(&before, &format!("unix:path:{}", binary.display())));
    // Somebody puts another program where this one was.
    fs::remove_file(&binary).unwrap();
    fs::copy("/bin/true", &binary).unwrap();
    let after = attestor.attest(&process, ALL).unwrap();
    assert!(!after.selectors.iter().any(|s| s.value().starts_with("path:")), "{:?}", after.selectors);
    assert_eq!(after.missing, [Missing::NoPath]);
    assert!(has(&after, &format!("unix:sha256:{}", sha256(Path::new("/bin/sh")))));
    attestor.recheck(&process, &before).unwrap();
}

#[test]
fn a_server_without_privilege_says_so_and_attests_its_own_users_processes() {
    let child = Running::shell("echo ready; read x");
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command
        .args(["--exact", "helper_process", "--nocapture"])
        .env("HELPER", format!("attest {}", child.0.id()));
    command.uid(1001).gid(1001).current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn(&mut command).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("understood"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
