//! What of a CA's private key can be found in the memory of who signs with it, and who may look.
//!
//! The memory is read whole, through /proc/PID/mem: what a core dump would have, and more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use integration::process::Process;
use integration::scratch::Scratch;
use integration::seats::{self, Seats};
use integration::server::{self, Options, Server};
use integration::{poll, sds};
use rustix::process::Signal;
use spiffe_bridge::keys::{DiskKeys, KeyManager, KeyType, SignatureScheme};

const DIRECTORY: &str = "COUNTERSIGN_TEST_DIRECTORY";
const NOBODY: u32 = 65_534;

/// All memory that `pid` can read itself, region by region, in pieces that overlap by more than a form is long.
fn search(pid: u32, forms: &[(&'static str, Vec<u8>)]) -> Vec<&'static str> {
    const PIECE: usize = 1 << 20;
    const OVERLAP: usize = 8192;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let (mut found, mut bytes) = (Vec::new(), vec![0; PIECE + OVERLAP]);
    let mut seen = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue; // nobody wrote a key there
        }
        let (from, to) = range.split_once('-').unwrap();
        let (mut from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        while from < to {
            let want = bytes.len().min(usize::try_from(to - from).unwrap());
            let Ok(count @ 1..) = memory.read_at(&mut bytes[..want], from) else { break };
            seen += count;
            for (form, needle) in forms {
                if memchr::memmem::find(&bytes[..count], needle).is_some() {
                    found.push(*form);
                }
            }
            from += PIECE as u64;
        }
    }
    assert!(seen > 1 << 20, "the memory was read");
    found.sort_unstable();
    found.dedup();
    found
}

/// The forms in which a P-256 key in PKCS#8 could lie in memory.
fn forms(pkcs8: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    // RFC 5915: version 1, then the scalar in 32 octets.
    const BEFORE: [u8; 5] = [2, 1, 1, 4, 32];
    let at = memchr::memmem::find(pkcs8, &BEFORE).unwrap();
    let scalar = &pkcs8[at + BEFORE.len()..][..32];
    let sec1 = &pkcs8[at - 2..at + BEFORE.len() + 32];
    let words: Vec<u8> = scalar.iter().rev().copied().collect();
    // Base64 of the middle does not depend on what stands before it but for three ways to be cut in threes.
    let base64 = |skip: usize| BASE64.encode(&scalar[skip..skip + 27]).into_bytes();
    vec![
        ("PKCS#8", pkcs8.to_vec()),
        ("SEC 1", sec1.to_vec()),
        ("PEM or base64 of PKCS#8", BASE64.encode(&pkcs8[..48]).into_bytes()),
        ("the scalar in base64 (1)", base64(0)),
        ("the scalar in base64 (2)", base64(1)),
        ("the scalar in base64 (3)", base64(2)),
        ("the scalar in base64url", BASE64URL.encode(&scalar[..30]).into_bytes()),
        ("the scalar in hexadecimal", HEXLOWER.encode(scalar).into_bytes()),
        ("the scalar", scalar.to_vec()),
        ("the scalar in words", words),
    ]
}

/// What aws-lc signs with: the number itself, in the words of this processor (little endian).
const NUMBER: [&str; 1] = ["the scalar in words"];

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_key_lies_in_the_servers_memory_as_the_number_that_signs_and_in_no_other_form() {
    if !rustix::process::geteuid().is_root() {
        return; // nobody else may look; CI runs as root
    }
    let scratch = Scratch::new().unwrap();
    let mut server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
    // Made in this process, and used; then read from its file by the next, and used.
    for run in ["made", "read"] {
        server
            .add_entry(&format!("spiffe://example.org/{run}"), &[&Seats::here().own_selector().unwrap()])
            .unwrap();
        let socket = server.socket();
        let id = format!("spiffe://example.org/{run}");
        poll::holds("served", Duration::from_secs(10), async || sds::svid(&socket, &id).await.is_ok())
            .await
            .unwrap();
        let mut keys = 0;
        for entry in fs::read_dir(server.data().join("keys")).unwrap() {
            let forms = forms(&fs::read(entry.unwrap().path()).unwrap());
            assert_eq!(search(server.id(), &forms), NUMBER, "{run}");
            keys += 1;
        }
        assert_eq!(keys, 3, "the root's, that of JWT-SVIDs and that of WIT-SVIDs");
        if run == "made" {
            server.stop().await.unwrap();
            server.restart().await.unwrap();
        }
    }
}

/// Not a test of its own: makes a CA key, uses it and destroys it, a step for each line that it is sent.
#[test]
fn helper_manager() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let mut lines = std::io::stdin().lines();
    let mut done = |what: &str| {
        println!("\n{what}");
        lines.next();
    };
    let id = "ca".parse().unwrap();
    let keys = DiskKeys::open(&directory).unwrap();
    keys.generate(&id, KeyType::EcP256).unwrap();
    let sign = |keys: &DiskKeys| {
        for message in 0..200_u32 {
            for scheme in [SignatureScheme::EcdsaP256Sha256, SignatureScheme::EcdsaP256Sha256Fixed] {
                keys.sign(&id, scheme, &message.to_be_bytes()).unwrap();
            }
        }
    };
    sign(&keys);
    done("made");
    drop(keys);
    done("dropped");
    let keys = DiskKeys::open(&directory).unwrap();
    sign(&keys);
    done("read");
    keys.destroy(&id).unwrap();
    done("destroyed");
}

#[test]
fn a_ca_key_is_nowhere_in_memory_once_it_is_dropped_or_destroyed() {
    let scratch = Scratch::new().unwrap();
    let directory = scratch.path().join("keys");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["helper_manager", "--exact", "--nocapture"]).env(DIRECTORY, &directory);
    let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = process.unwrap();
    let pid = process.id();
    let (mut said, mut say) =
        (BufReader::new(process.stdout.take().unwrap()).lines(), process.stdin.take().unwrap());
    let mut step = |what: &str| while said.next().expect("it ended").unwrap() != what {};
    step("made");
    let forms = forms(&fs::read(directory.join("ca.pk8")).unwrap());
    assert_eq!(search(pid, &forms), NUMBER, "while it signs");
    for (what, expected) in [("dropped", &[][..]), ("read", &NUMBER), ("destroyed", &[])] {
        say.write_all(b"\n").unwrap();
        step(what);
        assert_eq!(search(pid, &forms), expected, "{what}");
    }
    say.write_all(b"\n").unwrap();
    assert!(process.wait().unwrap().success());
}

/// What a process of `uid` can read of another.
fn reads(uid: Option<u32>, path: &str) -> bool {
    let mut head = Command::new("head");
    head.args(["-c", "16", path]).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(uid) = uid {
        head.uid(uid).gid(uid);
    }
    head.status().unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_neither_read_nor_dumped_by_another_process_of_its_user() {
    let scratch = Scratch::new().unwrap();
    let uid = (Seats::here() == Seats::Users).then_some(NOBODY);
    let home = scratch.dir("home", uid).unwrap();
    let program = seats::runnable(&scratch, "countersign", server::built().unwrap()).unwrap();
    let log = scratch.path().join("log");
    let mut serve = Command::new(program);
    serve.args(["serve", "--init", "--trust-domain", "example.org", "--data", "data", "--entries", "."]);
    serve.args(["--socket", "api.sock"]).current_dir(&home);
    let mut server = Process::spawn("countersign", serve, uid, &log).unwrap();
    let serves = async || server.output().lines().any(|line| line == "ready");
    poll::holds("it serves", Duration::from_secs(20), serves).await.unwrap();
    // That a process can be read at all is shown by one without such precautions.
    let mut plain = Command::new("sleep");
    plain.arg("60");
    let plain = Process::spawn("sleep", plain, uid, &log).unwrap();
    let readable = async || reads(uid, &format!("/proc/{}/environ", plain.id()));
    poll::holds("a plain process is read", Duration::from_secs(10), readable).await.unwrap();
    for what in ["environ", "auxv", "maps", "mem"] {
        assert!(!reads(uid, &format!("/proc/{}/{what}", server.id())), "{what}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    server.signal(Signal::ABORT).unwrap();
    let status = server.ended(Duration::from_secs(10)).await.unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(libc::SIGABRT), false));
}
