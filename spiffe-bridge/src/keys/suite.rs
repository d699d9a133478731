//! What every key manager must do, run over both; and what only the disk's must.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::{DiskKeys, KeyError, KeyId, KeyManager, KeyType, MemoryKeys, SignatureScheme};

const P256: KeyType = KeyType::EcP256;
const ECDSA: SignatureScheme = SignatureScheme::EcdsaP256Sha256;

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

fn check_manager(keys: &dyn KeyManager) {
    let (a, b) = (id("a"), id("b"));
    assert!(keys.list().unwrap().is_empty());
    let public = keys.generate(&a, P256).unwrap();
    assert_eq!(keys.public(&a).unwrap(), public);
    assert_ne!(keys.generate(&b, P256).unwrap(), public);
    assert_eq!(keys.list().unwrap(), [a.clone(), b.clone()]);
    assert!(matches!(keys.generate(&a, P256), Err(KeyError::Exists { .. })));
    assert_eq!(keys.public(&a).unwrap(), public, "a refused generate leaves the key as it was");

    let signature = keys.sign(&a, ECDSA, b"message").unwrap();
    assert!(public.verify(ECDSA, b"message", &signature).is_ok());
    assert!(public.verify(ECDSA, b"massage", &signature).is_err());
    assert!(keys.public(&b).unwrap().verify(ECDSA, b"message", &signature).is_err());

    keys.destroy(&a).unwrap();
    assert_eq!(keys.list().unwrap(), [b]);
    for result in [keys.sign(&a, ECDSA, b"").map(drop), keys.public(&a).map(drop), keys.destroy(&a)] {
        assert!(matches!(result, Err(KeyError::Unknown { .. })));
    }
    assert_ne!(keys.generate(&a, P256).unwrap(), public, "a destroyed key does not come back");
    KeyType::ALL.into_iter().for_each(|key_type| check_type(keys, key_type));
}

/// A key of each type signs in each scheme of its type and in no other.
fn check_type(keys: &dyn KeyManager, key_type: KeyType) {
    let id = id(key_type.as_str());
    let public = keys.generate(&id, key_type).unwrap();
    assert_eq!((public.key_type(), &keys.public(&id).unwrap()), (key_type, &public));
    for scheme in SCHEMES {
        match keys.sign(&id, scheme, b"message") {
            Ok(signature) => {
                assert!(scheme.fits(key_type), "{key_type} {scheme:?}");
                public.verify(scheme, b"message", &signature).unwrap();
                assert!(public.verify(scheme, b"massage", &signature).is_err());
                for other in SCHEMES.into_iter().filter(|other| *other != scheme) {
                    assert!(public.verify(other, b"message", &signature).is_err(), "{scheme:?} {other:?}");
                }
            }
            Err(KeyError::OtherScheme { .. }) => assert!(!scheme.fits(key_type), "{key_type} {scheme:?}"),
            Err(error) => panic!("{key_type} {scheme:?}: {error}"),
        }
    }
}

const SCHEMES: [SignatureScheme; 13] = [
    SignatureScheme::EcdsaP256Sha256,
    SignatureScheme::EcdsaP256Sha256Fixed,
    SignatureScheme::EcdsaP384Sha384,
    SignatureScheme::EcdsaP384Sha384Fixed,
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPkcs1Sha512,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::RsaPssSha384,
    SignatureScheme::RsaPssSha512,
    SignatureScheme::Ed25519,
    SignatureScheme::MlDsa44,
    SignatureScheme::MlDsa65,
];

#[test]
fn disk_reads_keys_of_every_type_again() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("keys");
    let keys = DiskKeys::open(&directory).unwrap();
    let made = KeyType::ALL.map(|key_type| keys.generate(&id(key_type.as_str()), key_type).unwrap());
    let again = DiskKeys::open(&directory).unwrap();
    for public in made {
        let (key_type, scheme) = (public.key_type(), public.key_type().certificate_scheme());
        let signature = again.sign(&id(key_type.as_str()), scheme, b"m").unwrap();
        public.verify(scheme, b"m", &signature).unwrap();
    }
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
    let public = DiskKeys::open(&directory).unwrap().generate(&id("root"), P256).unwrap();
    fs::write(directory.join("half.new"), b"cut off").unwrap();
    let again = DiskKeys::open(&directory).unwrap();
    assert_eq!(again.public(&id("root")).unwrap(), public);
    public.verify(ECDSA, b"m", &again.sign(&id("root"), ECDSA, b"m").unwrap()).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(directory.clone()), mode(directory.join("root.pk8"))), (0o700, 0o600));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no unfinished file is left");
}

#[test]
fn what_others_could_touch_is_refused_with_the_remedy() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("keys");
    DiskKeys::open(&directory).unwrap().generate(&id("root"), P256).unwrap();
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
    keys.generate(&id("root"), P256).unwrap();
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
    keys.generate(&id("secret"), P256).unwrap();
    assert_eq!(format!("{keys:?}"), "MemoryKeys(..)");
}
