//! Keys on disk: one PKCS#8 file a key, mode 0600, in a directory that is ours alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use super::memory::{Held, MemoryKeys};
use super::{KeyError, KeyHome, KeyId, KeyManager, KeyType, PublicKey, SignatureScheme};

/// What a key's file ends with, and a file that is still being written.
const SUFFIX: &str = ".pk8";
const UNFINISHED: &str = ".new";
/// The longest, RSA-4096 in PKCS#8, takes 2.4 KB; nothing of this size is a key.
const MAX_FILE_BYTES: u64 = 4096;

/// A key manager that keeps its keys in files. Not sealed: their mode is all that protects them.
///
/// All keys are read when it is opened, so that a broken file is found at the start and not when a
/// signature is due.
#[derive(Debug)]
pub struct DiskKeys {
    directory: PathBuf,
    keys: MemoryKeys,
    /// Held over a change of the directory and of `keys`, so that the two never differ.
    change: Mutex<()>,
}

impl DiskKeys {
    /// Opens the key directory, and makes it (mode 0700) if it does not exist. Its parent must.
    ///
    /// # Errors
    /// [`KeyError::Exposed`] if others could read or replace keys; [`KeyError::Corrupt`] for a file
    /// that is not a key; [`KeyError::Io`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let directory = directory.into();
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => sync_directory(directory.parent().unwrap_or(Path::new("/")))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(io_error("create", &directory)(e)),
        }
        let found = fs::metadata(&directory).map_err(io_error("look at", &directory))?;
        refuse_exposed(&directory, &found, 0o022, "chmod 700")?;
        let keys = MemoryKeys::new();
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let path = entry.map_err(io_error("list", &directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(UNFINISHED) {
                // A crash came before the key had its name, so nothing was ever signed with it.
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            } else if let Some(id) = name.strip_suffix(SUFFIX) {
                let id: KeyId = id.parse()?;
                keys.insert(&id, read_key(&path)?)?;
            }
        }
        Ok(Self { directory, keys, change: Mutex::default() })
    }

    fn path(&self, id: &KeyId) -> PathBuf {
        self.directory.join(format!("{id}{SUFFIX}"))
    }
}

impl KeyManager for DiskKeys {
    fn generate(&self, id: &KeyId, key_type: KeyType) -> Result<PublicKey, KeyError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(id);
        if path.exists() || self.keys.public(id).is_ok() {
            return Err(KeyError::Exists { id: id.clone() });
        }
        let held = Held::generate(key_type)?;
        let unfinished = self.directory.join(format!("{id}{UNFINISHED}"));
        write_new(&unfinished, &held.expose_pkcs8()?)?;
        // A link never overwrites, and the name appears only with the whole key behind it.
        fs::hard_link(&unfinished, &path).map_err(io_error("create", &path))?;
        fs::remove_file(&unfinished).map_err(io_error("remove", &unfinished))?;
        sync_directory(&self.directory)?;
        self.keys.insert(id, held)
    }

    fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.keys.public(id)
    }

    fn sign(&self, id: &KeyId, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.keys.sign(id, scheme, message)
    }

    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.public(id)?;
        let path = self.path(id);
        // Overwritten first: of use on plain disks, a gesture on those that copy on write.
        let blank = fs::metadata(&path).map_err(io_error("look at", &path))?.len().min(MAX_FILE_BYTES);
        let mut file = OpenOptions::new().write(true).open(&path).map_err(io_error("open", &path))?;
        io::copy(&mut io::repeat(0).take(blank), &mut file).map_err(io_error("overwrite", &path))?;
        file.sync_all().map_err(io_error("sync", &path))?;
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
        sync_directory(&self.directory)?;
        self.keys.destroy(id)
    }

    fn list(&self) -> Result<Vec<KeyId>, KeyError> {
        self.keys.list()
    }

    fn home(&self) -> KeyHome {
        KeyHome::UnsealedDisk { directory: self.directory.clone() }
    }
}

/// Whether a key lies in `directory`. Other files there are none of ours.
///
/// # Errors
/// The directory is there and cannot be listed.
pub fn are_there_any(directory: &Path) -> io::Result<bool> {
    let files = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        files => files?,
    };
    for file in files {
        if file?.file_name().as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_key(path: &Path) -> Result<Held, KeyError> {
    // A link could lead to a file whose directory others can write to.
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file =
        OpenOptions::new().read(true).custom_flags(nofollow).open(path).map_err(io_error("open", path))?;
    let found = file.metadata().map_err(io_error("look at", path))?;
    refuse_exposed(path, &found, 0o077, "chmod 600")?;
    let mut der = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize));
    file.take(MAX_FILE_BYTES).read_to_end(&mut der).map_err(io_error("read", path))?;
    Held::from_pkcs8(&der).ok_or_else(|| KeyError::Corrupt { path: path.to_owned() })
}

/// Refuses what somebody else owns, or has one of the permission bits in `forbidden`.
fn refuse_exposed(
    path: &Path,
    found: &fs::Metadata,
    forbidden: u32,
    chmod: &'static str,
) -> Result<(), KeyError> {
    let mode = found.mode() & 0o7777;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if mode & forbidden == 0 && ours {
        return Ok(());
    }
    let chown = if ours { String::new() } else { format!("chown $(id -u) {} && ", path.display()) };
    let remedy = format!("{chown}{chmod} {}", path.display());
    Err(KeyError::Exposed { path: path.to_owned(), mode, remedy })
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true) // O_EXCL
        .mode(0o600)
        .open(path)
        .map_err(io_error("create", path))?;
    file.write_all(bytes).map_err(io_error("write", path))?;
    file.sync_all().map_err(io_error("sync", path))
}

fn sync_directory(path: &Path) -> Result<(), KeyError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync", path))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { operation, path, source }
}
