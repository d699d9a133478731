//! A data directory that is not what it was is refused, with what to do, and left as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;

/// The exit code and what it said.
fn run(verb: &[&str], domain: &str, data: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(verb).args(["--trust-domain", domain, "--data"]).arg(data);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn init_for_another_trust_domain_says_whose_directory_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    assert_eq!(run(&["init"], "example.org", &data).0, Some(0));
    let (code, said) = run(&["init"], "other.test", &data);
    assert_ne!(code, Some(0));
    assert!(said.contains("example.org") && said.contains("another data directory"), "{said}");
    let (code, said) = run(&["init"], "example.org", &data);
    assert_ne!(code, Some(0));
    assert!(said.contains("already"), "{said}");
}

#[test]
fn lost_keys_are_not_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    assert_eq!(run(&["init"], "example.org", &data).0, Some(0));
    std::fs::rename(data.join("keys"), directory.path().join("away")).unwrap();
    for verb in [&["serve"][..], &["serve", "--init"], &["init"]] {
        let (code, said) = run(verb, "example.org", &data);
        assert_ne!(code, Some(0), "{verb:?}");
        assert!(said.contains("backup"), "{verb:?}: {said}");
        assert!(!data.join("keys").exists(), "{verb:?} made an empty one");
    }
}

#[test]
fn a_lost_store_does_not_become_a_new_root() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    assert_eq!(run(&["init"], "example.org", &data).0, Some(0));
    std::fs::rename(data.join("store.redb"), directory.path().join("away")).unwrap();
    for verb in [&["serve"][..], &["serve", "--init"], &["init"]] {
        let (code, said) = run(verb, "example.org", &data);
        assert_ne!(code, Some(0), "{verb:?}");
        assert!(said.contains("holds keys and no store") && said.contains("backup"), "{verb:?}: {said}");
        assert!(!data.join("store.redb").exists(), "{verb:?} made an empty one");
    }
}

#[test]
fn what_is_no_key_does_not_make_a_first_start_a_loss() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for path in [data.clone(), data.join("keys"), data.join("keys/lost+found")] {
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    let (code, said) = run(&["init"], "example.org", &data);
    assert_eq!(code, Some(0), "{said}");
}
