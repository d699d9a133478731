//! Executables on overlayfs: path and hash are told right, also right after a change. Needs root.
//!
//! In a mount namespace of the test's own, in which the attestor stands too: elsewhere there are no `unix:` selectors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use spiffe_bridge::attest::{Attestation, Attestor, Config, Missing, Process};
use spiffe_bridge::registration::Needs;

const AT: &str = "COUNTERSIGN_TEST_OVERLAY";

/// Ends with its test.
struct Running(Child);

impl Running {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(["-c", "echo ready; read x"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        Self(child)
    }

    fn attested(&self, attestor: &Attestor) -> Attestation {
        let process = Process::from_peer(self.0.id(), 0, 0, None).unwrap();
        attestor.attest(&process, Needs { path: true, sha256: true, ..Needs::NONE }).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sha256(path: &Path) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &fs::read(path).unwrap());
    data_encoding::HEXLOWER.encode(hash.as_ref())
}

/// The values of path and hash.
fn values(attestation: &Attestation) -> (Option<String>, Option<String>) {
    let of = |key: &str| {
        attestation
            .selectors
            .iter()
            .find_map(|selector| selector.value().strip_prefix(key).map(str::to_owned))
    };
    (of("path:"), of("sha256:"))
}

fn mount(arguments: &[&str]) {
    let ran = Command::new("mount").args(arguments).output().unwrap();
    assert!(ran.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Not a test of its own: what runs in the namespace.
#[test]
fn helper_program() {
    let Ok(at) = std::env::var(AT) else { return };
    let at = PathBuf::from(at);
    mount(&["-t", "tmpfs", "tmpfs", at.to_str().unwrap()]);
    for place in ["lower", "upper", "work", "merged"] {
        fs::create_dir(at.join(place)).unwrap();
    }
    fs::copy("/bin/sh", at.join("lower/shell")).unwrap();
    let places = ["lower", "upper", "work"].map(|place| format!("{place}dir={}", at.join(place).display()));
    let (options, merged) = (places.join(","), at.join("merged"));
    mount(&["-t", "overlay", "overlay", "-o", &options, merged.to_str().unwrap()]);
    let (attestor, program) = (Attestor::new(Config::default()).0, merged.join("shell"));
    let path = Some(program.display().to_string());

    let first = sha256(Path::new("/bin/sh"));
    let running = Running::start(&program);
    assert_eq!(values(&running.attested(&attestor)), (path.clone(), Some(first.clone())));
    drop(running);

    // Changed in place, twice, to the same size: the first copies it up, the second may leave its times as they were.
    // What stands behind the program is not read by whoever executes it.
    for tail in [b"one", b"two"] {
        let mut bytes = Vec::new();
        fs::File::open("/bin/sh").unwrap().read_to_end(&mut bytes).unwrap();
        bytes.extend_from_slice(tail);
        let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&program).unwrap();
        file.write_all(&bytes).unwrap();
        drop(file);
        let now = sha256(&program);
        assert_ne!(now, first);
        let running = Running::start(&program);
        assert_eq!(values(&running.attested(&attestor)), (path.clone(), Some(now)));
    }

    // Replaced while it runs: the hash is of what runs, and the path is nobody's.
    let (running, before) = (Running::start(&program), sha256(&program));
    fs::copy("/bin/true", merged.join("new")).unwrap();
    fs::rename(merged.join("new"), &program).unwrap();
    let attestation = running.attested(&attestor);
    assert_eq!(values(&attestation), (None, Some(before)));
    assert_eq!(attestation.missing, [Missing::NoPath]);
    println!("\nall told right");
}

#[test]
fn path_and_hash_on_overlayfs_are_of_what_runs_also_after_it_was_changed_or_replaced() {
    let at = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(std::env::current_exe().unwrap());
    command.args(["--exact", "helper_program", "--nocapture"]).env(AT, at.path());
    let ran = command.output().unwrap();
    let (said, why) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let told = said.contains("all told right");
    assert!(ran.status.success() && told, "run as root, where overlayfs can be mounted: {said}\n{why}");
}
