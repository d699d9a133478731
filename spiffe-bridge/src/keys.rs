//! The key manager: makes, signs with and destroys CA keys, which never leave it (invariant 8).
//!
//! Two homes: [`MemoryKeys`] (gone with the process) and [`DiskKeys`] (one file a key, mode 0600).
//! A key is of one [`KeyType`] for good, and signs in each [`SignatureScheme`] that fits it; all through
//! aws-lc-rs, which wipes what it frees. There is no call that gives a private key back. Workload keys are
//! another matter: they are made to be handed over, by [`workload::generate`], and no manager ever sees them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

mod disk;
mod key_type;
mod memory;
mod pair;
pub mod pool;
mod public;
#[cfg(test)]
mod suite;
pub mod workload;

pub use disk::{DiskKeys, are_there_any};
pub use key_type::{KeyType, SignatureScheme, UnknownKeyType};
pub use memory::MemoryKeys;
pub use public::{PublicKey, PublicKeyError};

/// The name of a key in its manager: 1 to 64 of `a-z`, `0-9` and `-`, not starting with `-`. It is
/// also a file name, and so can name nothing outside the key directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct KeyId(String);

impl KeyId {
    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(plain);
        good.then(|| Self(text.to_owned()))
            .ok_or_else(|| KeyError::BadName { text: text.chars().take(64).collect() })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a manager keeps its keys, for people to judge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum KeyHome {
    /// In this process only; a restart loses them.
    Memory,
    /// In files that nothing but their mode protects: "unsealed". rotation.md, "State".
    UnsealedDisk {
        /// The key directory.
        directory: PathBuf,
    },
}

/// Makes keys, signs with them and destroys them. Calls block, for microseconds (sign; RSA:
/// milliseconds) up to a disk's fsync (generate, destroy) or the search for two primes (generate, RSA).
pub trait KeyManager: Send + Sync {
    /// Makes a new key; it is durable, if this manager is, when the call returns.
    ///
    /// # Errors
    /// [`KeyError::Exists`] if the name is taken; what the home reports.
    fn generate(&self, id: &KeyId, key_type: KeyType) -> Result<PublicKey, KeyError>;

    /// The public half of a key.
    ///
    /// # Errors
    /// [`KeyError::Unknown`].
    fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError>;

    /// Signs `message` (not its hash) the way of `scheme`.
    ///
    /// # Errors
    /// [`KeyError::Unknown`], [`KeyError::OtherScheme`], [`KeyError::Crypto`].
    fn sign(&self, id: &KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Destroys a key for good. Destroying what does not exist is an error, so that a record that
    /// says "destroyed" is never a guess.
    ///
    /// # Errors
    /// [`KeyError::Unknown`]; what the home reports.
    fn destroy(&self, id: &KeyId) -> Result<(), KeyError>;

    /// The names of all keys, sorted.
    ///
    /// # Errors
    /// What the home reports.
    fn list(&self) -> Result<Vec<KeyId>, KeyError>;

    /// Where the keys are.
    fn home(&self) -> KeyHome;
}

/// Why a key manager could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not a key's name.
    #[error("{text:?} is not the name of a key: use 1 to 64 of a-z, 0-9 and '-'")]
    BadName {
        /// What was given, cut to 64 characters.
        text: String,
    },
    /// No key of that name.
    #[error("there is no key {id}: restore the key directory from the backup that belongs to this store")]
    Unknown {
        /// The name asked for.
        id: KeyId,
    },
    /// The name is taken.
    #[error("key {id} exists already and is not overwritten")]
    Exists {
        /// The name asked for.
        id: KeyId,
    },
    /// Others could read or replace keys.
    #[error("{} has mode {mode:04o} or another owner: run `{remedy}`", path.display())]
    Exposed {
        /// The directory or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The command that puts it right.
        remedy: String,
    },
    /// A file that should be a key is not one.
    #[error("{} is not a key in PKCS#8 of a type that is known here: restore it from a backup", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The key does not sign that way.
    #[error("a key of type {key_type} does not sign as {scheme:?}: ask for a scheme of its type")]
    OtherScheme {
        /// The key's type.
        key_type: KeyType,
        /// What was asked for.
        scheme: SignatureScheme,
    },
    /// The cryptographic library failed, which it tells nothing more about.
    #[error("the cryptographic library could not {operation}")]
    Crypto {
        /// What was tried.
        operation: &'static str,
    },
}
