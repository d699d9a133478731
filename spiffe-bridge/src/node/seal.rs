//! The sealing key: what the SVID cache is encrypted with before it touches the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// AES-256-GCM with a fresh random nonce a record. Prints nothing.
pub struct SealingKey(RandomizedNonceKey);

/// Why a sealing key could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The file could not be read, made or made durable.
    #[error("cannot {operation} the sealing key {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The key's file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Others can read or write the file.
    #[error("the sealing key {path} has mode {mode:04o}: others must not read it; run chmod 0600 {path}")]
    Mode {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("the sealing key {path} does not hold {KEY_BYTES} bytes: remove it to start with an empty cache")]
    Malformed {
        /// The key's file.
        path: PathBuf,
    },
    /// The cipher refused.
    #[error("the cipher failed")]
    Cipher,
}

impl SealingKey {
    /// Reads the key in `path`; makes it (mode 0600, durable) if there is none.
    ///
    /// # Errors
    /// [`SealError`] if the file cannot be read or made, is open to others, or holds no key.
    pub fn load_or_create(path: &Path) -> Result<Self, SealError> {
        match File::open(path) {
            Ok(file) => Self::read(path, file),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::create(path),
            Err(source) => Err(failed("open", path, source)),
        }
    }

    /// A key that lives in memory only.
    ///
    /// # Errors
    /// [`SealError::Cipher`] if the system has no randomness.
    pub fn ephemeral() -> Result<Self, SealError> {
        Self::from_bytes(&*random()?)
    }

    fn read(path: &Path, mut file: File) -> Result<Self, SealError> {
        let mode = file.metadata().map_err(|e| failed("inspect", path, e))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SealError::Mode { path: path.into(), mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        let limit = KEY_BYTES as u64 + 1;
        (&mut file).take(limit).read_to_end(&mut bytes).map_err(|e| failed("read", path, e))?;
        if bytes.len() != KEY_BYTES {
            return Err(SealError::Malformed { path: path.into() });
        }
        Self::from_bytes(&bytes)
    }

    fn create(path: &Path) -> Result<Self, SealError> {
        let bytes = random()?;
        // Whole or not at all: a crash between the two must not leave half a key.
        let part = path.with_extension("part");
        let _ = fs::remove_file(&part);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(|e| failed("create", &part, e))?;
        file.write_all(&*bytes).and_then(|()| file.sync_all()).map_err(|e| failed("write", &part, e))?;
        fs::rename(&part, path).map_err(|e| failed("place", path, e))?;
        let parent = path.parent().unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| failed("place", path, e))?;
        Self::from_bytes(&*bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| SealError::Cipher)
    }

    /// Nonce, then the sealed `plain` with its tag. `bound` must be given again to open it.
    pub(super) fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = Zeroizing::new(plain.to_vec());
        let nonce =
            self.0.seal_in_place_append_tag(Aad::from(bound), &mut *sealed).map_err(|_| SealError::Cipher)?;
        Ok([nonce.as_ref(), sealed.as_slice()].concat())
    }

    /// What was sealed, or `None` if it was sealed by another key, for another place, or changed.
    pub(super) fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_BYTES)?;
        let nonce = aws_lc_rs::aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let len = self.0.open_in_place(nonce, Aad::from(bound), &mut plain).ok()?.len();
        plain.truncate(len);
        Some(plain)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

fn random() -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(&mut *bytes).map_err(|_| SealError::Cipher)?;
    Ok(bytes)
}

fn failed(operation: &'static str, path: &Path, source: std::io::Error) -> SealError {
    SealError::File { operation, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_sealed_record_opens_with_its_key_and_place_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal");
        let sealed = SealingKey::load_or_create(&path).unwrap().seal(b"here", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        let again = SealingKey::load_or_create(&path).unwrap();
        assert_eq!(again.open(b"here", &sealed).unwrap().as_slice(), b"secret");
        assert!(again.open(b"there", &sealed).is_none());
        assert!(SealingKey::ephemeral().unwrap().open(b"here", &sealed).is_none());
        assert!(again.open(b"here", &[]).is_none());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal");
        SealingKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = SealingKey::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 0600"), "{error}");
    }
}
