//! Pids that are used again while a caller is looked at: whoever has the pid now is never taken for who connected.
//!
//! In a PID namespace of the test's own, where nobody else takes pids and `ns_last_pid` chooses the next one. Needs root.
//! The processes differ by a supplementary group alone: same user, group, program, and place in memory (they are forked
//! and do not exec), often the same start time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use sds_server::endpoint::Peer;
use spiffe_bridge::attest::{Attestor, Config, Process};
use spiffe_bridge::registration::Needs;

const KIND: &str = "COUNTERSIGN_TEST_PID_REUSE";
/// How many of the random rounds.
const ROUNDS: u32 = 20_000;
const USER: u32 = 1001;
const ATTACKER: u32 = 4001;
const VICTIM: u32 = 4002;

/// When the one that connected ends, and another gets its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    BeforeAccept,
    BeforePeer,
    BeforeProcess,
    BeforeAttest,
    BeforeRecheck,
    Never,
}

const ENDS: [When; 5] =
    [When::BeforeAccept, When::BeforePeer, When::BeforeProcess, When::BeforeAttest, When::BeforeRecheck];

/// Runs `child` in a process of its own, which must not allocate: the parent has threads.
fn fork(child: impl FnOnce()) -> i32 {
    // SAFETY: the child calls nothing but what signal-safety(7) lists, and ends without running the parent's exits.
    match unsafe { libc::fork() } {
        0 => {
            child();
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        pid => {
            assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
            pid
        }
    }
}

/// Becomes the user of both, with `group` besides.
fn become_user(group: u32) {
    // SAFETY: raw system calls with memory of ours; signal-safe.
    unsafe {
        libc::syscall(libc::SYS_setgroups, 1usize, &raw const group);
        libc::syscall(libc::SYS_setresgid, USER, USER, USER);
        libc::syscall(libc::SYS_setresuid, USER, USER, USER);
    }
}

fn pause() {
    // SAFETY: no memory is passed.
    unsafe { libc::pause() };
}

/// The address of `socket`, made before the fork.
fn address(socket: &Path) -> libc::sockaddr_un {
    // SAFETY: all zeros is a value of this type.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = u16::try_from(libc::AF_UNIX).unwrap();
    for (to, from) in address.sun_path.iter_mut().zip(OsStr::as_bytes(socket.as_os_str())) {
        *to = from.cast_signed();
    }
    address
}

fn connect(address: &libc::sockaddr_un) {
    let length = u32::try_from(size_of::<libc::sockaddr_un>()).unwrap_or(0);
    // SAFETY: the address lives through the call, and its length is stated.
    unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        libc::connect(fd, std::ptr::from_ref(address).cast(), length);
    }
}

fn end(pid: i32) {
    // SAFETY: a child of ours that was not waited for.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
    }
}

/// Whether `pid` has become the user of both.
fn is_user(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.contains(&format!("\nUid:\t{USER}\t"))
}

/// Another process of the same user under `pid`.
fn successor(pid: i32) -> i32 {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let next = fork(|| {
        become_user(VICTIM);
        pause();
    });
    assert_eq!(next, pid, "nobody else takes pids here");
    next
}

struct Server {
    listener: UnixListener,
    address: libc::sockaddr_un,
    attestor: Attestor,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let (attestor, address) = (Attestor::new(Config::default()).0, address(&socket));
        Self { listener, address, attestor, runtime, _dir: dir }
    }

    /// What the one that connected gets; `at` is called before each step.
    fn answer(&self, mut at: impl FnMut(When)) -> Result<String, String> {
        at(When::BeforeAccept);
        let (stream, _) = self.listener.accept().unwrap();
        at(When::BeforePeer);
        let _in = self.runtime.enter();
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(stream).unwrap();
        assert!(stream.as_raw_fd() >= 0);
        let gone = || "the caller has exited".to_owned();
        let Peer { pid, uid, gid, pidfd } = Peer::of(&stream).map_err(|_| gone())?;
        at(When::BeforeProcess);
        let process = Process::from_peer(pid, uid, gid, pidfd).map_err(|e| e.to_string())?;
        self.attested(&process, at)
    }

    /// What a broker gets that refers to `pid`; `at` is called before each step.
    fn answer_of(&self, pid: i32, mut at: impl FnMut(When)) -> Result<String, String> {
        at(When::BeforeProcess);
        let process = Process::by_pid(u32::try_from(pid).unwrap()).map_err(|e| e.to_string())?;
        self.attested(&process, at)
    }

    fn attested(&self, process: &Process, mut at: impl FnMut(When)) -> Result<String, String> {
        at(When::BeforeAttest);
        let attestation = self.attestor.attest(process, Needs::NONE).map_err(|e| e.to_string())?;
        at(When::BeforeRecheck);
        self.attestor.recheck(process, &attestation).map_err(|e| format!("the caller {e}"))?;
        Ok(attestation.selectors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    /// What a broker gets whose workload ends at `when`, and whose pid another process has from then on, or nobody.
    fn refer(&self, when: When, is_reused: bool) -> Result<String, String> {
        let workload = fork(|| {
            become_user(ATTACKER);
            pause();
        });
        while !is_user(workload) {
            std::thread::yield_now();
        }
        let (mut is_there, mut next) = (true, None);
        let answer = self.answer_of(workload, |now| {
            if now == when {
                end(workload);
                is_there = false;
                next = is_reused.then(|| successor(workload));
                while next.is_some_and(|next| !is_user(next)) {
                    std::thread::yield_now();
                }
            }
        });
        if is_there {
            end(workload);
        }
        next.into_iter().for_each(end);
        answer
    }

    /// What an attacker gets that ends at `when`, and whose pid another process has from then on, or nobody.
    fn attack(&self, when: When, is_reused: bool) -> Result<String, String> {
        let attacker = fork(|| {
            become_user(ATTACKER);
            connect(&self.address);
            if when != When::BeforeAccept {
                pause();
            }
        });
        let (mut is_there, mut victim) = (true, None);
        let answer = self.answer(|now| {
            if now != when {
                return;
            }
            if when == When::BeforeAccept {
                // It ends by itself, with its connection in the queue.
                // SAFETY: as in `end`.
                assert_eq!(unsafe { libc::waitpid(attacker, std::ptr::null_mut(), 0) }, attacker);
            } else {
                end(attacker);
            }
            is_there = false;
            victim = is_reused.then(|| successor(attacker));
        });
        if is_there {
            end(attacker);
        }
        victim.into_iter().for_each(end);
        answer
    }
}

/// Each time that the pid is another's the answer is the one for a process that is just gone.
fn chosen() {
    let server = Server::new();
    let own = format!("unix:gid:{USER} unix:supplementary_gid:{ATTACKER} unix:uid:{USER}");
    assert_eq!(server.attack(When::Never, false), Ok(own));
    for when in ENDS {
        let gone = server.attack(when, false);
        assert_eq!(gone, Err("the caller has exited".to_owned()), "{when:?}");
        for round in 0..200 {
            assert_eq!(server.attack(when, true), gone, "{when:?} {round}");
        }
    }
    println!("\n1000 rounds");
}

/// A broker's pid means whoever has it when it is first looked at, and nobody who has it later.
fn referred() {
    let server = Server::new();
    let of = |group| format!("unix:gid:{USER} unix:supplementary_gid:{group} unix:uid:{USER}");
    assert_eq!(server.refer(When::Never, false), Ok(of(ATTACKER)));
    for when in [When::BeforeAttest, When::BeforeRecheck] {
        let gone = server.refer(when, false);
        assert_eq!(gone, Err("the caller has exited".to_owned()), "{when:?}");
        for round in 0..500 {
            assert_eq!(server.refer(when, true), gone, "{when:?} {round}");
        }
    }
    for round in 0..200 {
        assert_eq!(server.refer(When::BeforeProcess, true), Ok(of(VICTIM)), "{round}");
    }
    println!("\n1200 rounds");
}

/// What both sides of the race see: the pid that is meant, and how often another process had it.
struct Shared {
    pid: AtomicI32,
    reused: AtomicU32,
}

/// The attacker ends when it likes, while another process forks victims under its pid as fast as it can.
fn random() {
    let server = Server::new();
    // SAFETY: new memory, of a page, zeroed, shared with the children; both fields are good as zeros.
    let shared: &Shared = unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        let at = libc::mmap(std::ptr::null_mut(), 4096, access, kind, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        &*at.cast()
    };
    // SAFETY: children that end are gone at once, with their pids.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let forks = fork(|| race(shared));
    let mut seed = u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15;
    let (mut served, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let spins = seed % 60_000;
        let attacker = fork(|| {
            become_user(ATTACKER);
            connect(&server.address);
            (0..spins).for_each(|_| std::hint::spin_loop());
        });
        shared.pid.store(attacker, Ordering::SeqCst);
        match server.answer(|_| ()) {
            Ok(selectors) => {
                assert!(!selectors.contains(&VICTIM.to_string()), "{round}: {selectors}");
                assert!(selectors.contains(&ATTACKER.to_string()), "{round}: {selectors}");
                served += 1;
            }
            // It has exited, or is about to, and shows no more of itself.
            Err(_) => refused += 1,
        }
    }
    // SAFETY: a child of ours, which does not end by itself.
    unsafe { libc::kill(forks, libc::SIGKILL) };
    let reused = shared.reused.load(Ordering::SeqCst);
    let all = [served, refused, reused];
    assert!(all.iter().all(|count| *count > 0), "each end of the race was met: {all:?}");
    println!("\n{ROUNDS} rounds: {served} served, {refused} refused, {reused} pids used again");
}

/// Forks a victim for each pid that is meant, as soon as that is free, until it is killed.
fn race(shared: &Shared) {
    // SAFETY: a path of ours, with its end; signal-safe, as all in here.
    let file = unsafe { libc::open(c"/proc/sys/kernel/ns_last_pid".as_ptr(), libc::O_WRONLY) };
    let mut last = 0;
    loop {
        let meant = shared.pid.load(Ordering::SeqCst);
        // SAFETY: no memory is passed.
        if meant == last || unsafe { libc::kill(meant, 0) } == 0 {
            // SAFETY: as above.
            unsafe { libc::usleep(20) };
            continue;
        }
        last = meant;
        let (mut text, mut at, mut left) = ([b'0'; 10], 10, meant - 1);
        while left > 0 {
            at -= 1;
            text[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
        }
        // SAFETY: as above; the length is that of the text.
        unsafe { libc::pwrite(file, text[at..].as_ptr().cast(), 10 - at, 0) };
        // SAFETY: as in `fork`.
        if unsafe { libc::fork() } == 0 {
            become_user(VICTIM);
            // SAFETY: no memory is passed.
            if unsafe { libc::getpid() } == meant {
                shared.reused.fetch_add(1, Ordering::SeqCst);
            }
            (0..20_000).for_each(|_| std::hint::spin_loop());
            // SAFETY: as in `fork`.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Not a test of its own: the first process of the namespace.
#[test]
fn helper_program() {
    match std::env::var(KIND).as_deref() {
        Ok("chosen") => chosen(),
        Ok("referred") => referred(),
        Ok("random") => random(),
        _ => {}
    }
}

/// Runs a kind in a PID namespace of its own, and gives what it says.
fn in_namespace(kind: &str) -> String {
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(own);
    let ran = command.args(["--exact", "helper_program", "--nocapture"]).env(KIND, kind).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let why = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "run as root, where PID namespaces can be made: {said}\n{why}");
    said
}

#[test]
fn in_1000_rounds_whoever_has_the_pid_now_gets_nothing_for_who_connected() {
    let said = in_namespace("chosen");
    assert!(said.contains("1000 rounds"), "{said}");
}

#[test]
fn in_1000_rounds_whoever_has_the_pid_now_is_not_who_a_broker_referred_to() {
    let said = in_namespace("referred");
    assert!(said.contains("1200 rounds"), "{said}");
}

#[test]
fn in_20000_random_rounds_nobody_is_taken_for_another() {
    let said = in_namespace("random");
    let line = said.lines().find(|line| line.starts_with("20000 rounds: "));
    println!("{}", line.unwrap_or_else(|| panic!("{said}")));
}
