//! What every key manager must do, run over both; and what only the disk's must.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::{DiskKeys, KeyError, KeyId, KeyManager, MemoryKeys, PublicKey};

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

fn verifies(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point()).verify(message, signature).is_ok()
}

fn check_manager(keys: &dyn KeyManager) {
    let (a, b) = (id("a"), id("b"));
    assert!(keys.list().unwrap().is_empty());
    let public = keys.generate(&a).unwrap();
    assert_eq!(keys.public(&a).unwrap(), public);
    assert_ne!(keys.generate(&b).unwrap(), public);
    assert_eq!(keys.list().unwrap(), [a.clone(), b.clone()]);
    assert!(matches!(keys.generate(&a), Err(KeyError::Exists { .. })));
    assert_eq!(keys.public(&a).unwrap(), public, "a refused generate leaves the key as it was");

    let signature = keys.sign(&a, b"message").unwrap();
    assert!(verifies(&public, b"message", &signature));
    assert!(!verifies(&public, b"massage", &signature));
    assert!(!verifies(&keys.public(&b).unwrap(), b"message", &signature));

    keys.destroy(&a).unwrap();
    assert_eq!(keys.list().unwrap(), [b]);
    for result in [keys.sign(&a, b"").map(drop), keys.public(&a).map(drop), keys.destroy(&a)] {
        assert!(matches!(result, Err(KeyError::Unknown { .. })));
    }
    assert_ne!(keys.generate(&a).unwrap(), public, "a destroyed key does not come back");
}

#[test]
fn memory_keeps_the_contract() {
    check_manager(&MemoryKeys::new());
}

#[test]
fn disk_keeps_the_contract() {
    let data = tempfile::tempdir().unwrap();
    check_manager(&DiskKeys::open(data.path().join("keys")).unwrap());
}

#[test]
fn disk_keys_outlive_the_manager_and_are_private() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("keys");
    let public = DiskKeys::open(&directory).unwrap().generate(&id("root")).unwrap();
    fs::write(directory.join("half.new"), b"cut off").unwrap();
    let again = DiskKeys::open(&directory).unwrap();
    assert_eq!(again.public(&id("root")).unwrap(), public);
    assert!(verifies(&public, b"m", &again.sign(&id("root"), b"m").unwrap()));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(directory.clone()), mode(directory.join("root.pk8"))), (0o700, 0o600));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no unfinished file is left");
}

#[test]
fn what_others_could_touch_is_refused_with_the_remedy() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("keys");
    DiskKeys::open(&directory).unwrap().generate(&id("root")).unwrap();
    let file = directory.join("root.pk8");
    let check = |path: &std::path::Path, mode, back, remedy: &str| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let error = DiskKeys::open(&directory).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { .. }), "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
        fs::set_permissions(path, Permissions::from_mode(back)).unwrap();
        DiskKeys::open(&directory).unwrap();
    };
    for mode in [0o770, 0o720, 0o702, 0o777] {
        check(&directory, mode, 0o700, "chmod 700");
    }
    for mode in [0o640, 0o604, 0o620, 0o602] {
        check(&file, mode, 0o600, "chmod 600");
    }
}

#[test]
fn a_broken_key_is_found_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let keys = DiskKeys::open(data.path().join("keys")).unwrap();
    keys.generate(&id("root")).unwrap();
    let file = data.path().join("keys/root.pk8");
    let der = fs::read(&file).unwrap();
    fs::write(&file, &der[..der.len() - 1]).unwrap();
    assert!(matches!(DiskKeys::open(data.path().join("keys")), Err(KeyError::Corrupt { .. })));
}

#[test]
fn names_cannot_leave_the_directory() {
    let long = "a".repeat(65);
    for text in ["", ".", "..", "a/b", "a.b", "A", "-a", "a\0", "ä", long.as_str()] {
        assert!(text.parse::<KeyId>().is_err(), "{text:?}");
    }
    assert!("root-0a".parse::<KeyId>().is_ok());
}

#[test]
fn managers_print_no_keys() {
    let keys = MemoryKeys::new();
    keys.generate(&id("secret")).unwrap();
    assert_eq!(format!("{keys:?}"), "MemoryKeys(..)");
}
