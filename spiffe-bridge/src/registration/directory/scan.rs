//! One look at the directory: which files there are and what they hold. A file that did not change is not read again.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::StatVfsMountFlags;
use spiffe::TrustDomain;

use super::decide::Found;
use crate::registration::document::{self, Fault, MAX_FILE_BYTES};

/// The most entry files: more in one directory are hardly meant.
const MAX_FILES: usize = 100_000;

/// A file that changed less than this before it was read may change again within the same tick of
/// the file system's clock: it is read again next time.
const TICK_NANOS: i128 = 100_000_000;

/// Why a directory was not scanned.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the entries directory: check that it is there, mounted and readable ({source})")]
pub(in crate::registration) struct ScanError {
    path: PathBuf,
    source: io::Error,
}

impl ScanError {
    pub(in crate::registration) fn as_fault(&self) -> Fault {
        let file = self.path.display().to_string().into();
        Fault { file, line: 0, column: 0, message: self.to_string() }
    }
}

/// What tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: i128,
    changed: i128,
}

impl Stamp {
    fn of(m: &Metadata) -> Self {
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            modified: nanos(m.mtime(), m.mtime_nsec()),
            changed: nanos(m.ctime(), m.ctime_nsec()),
        }
    }

    /// Whether a later change would surely show.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i128::try_from(now.as_nanos()).is_ok_and(|now| (self.changed..now).contains(&(now - TICK_NANOS)))
    }
}

/// Scans a directory, and remembers what it has read.
#[derive(Debug)]
pub(in crate::registration) struct Scanner {
    path: PathBuf,
    trust_domain: TrustDomain,
    seen: HashMap<Arc<str>, (Stamp, Found)>,
    /// What the last look found open to everybody.
    open: Option<PathBuf>,
}

impl Scanner {
    pub(in crate::registration) fn new(path: PathBuf, trust_domain: TrustDomain) -> Self {
        Self { path, trust_domain, seen: HashMap::new(), open: None }
    }

    /// The directory or a file in it, if anybody may write to it: whoever does gives himself identities.
    pub(in crate::registration) fn open_to_all(&self) -> Option<&Path> {
        self.open.as_deref()
    }

    /// Looks at every entry file: `*.yaml` and `*.yml`, not hidden; links are followed.
    pub(in crate::registration) fn scan(&mut self) -> Result<BTreeMap<Arc<str>, Found>, ScanError> {
        let failed = |source| ScanError { path: self.path.clone(), source };
        self.open = self.path.metadata().ok().filter(|of| is_open(of, &self.path)).map(|_| self.path.clone());
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            names.extend(is_entry_file(&name).then_some(name));
            if names.len() > MAX_FILES {
                return Err(failed(io::Error::other(format!("more than {MAX_FILES} entry files"))));
            }
        }
        let mut found = BTreeMap::new();
        let mut seen = HashMap::with_capacity(names.len());
        for name in names {
            let path = self.path.join(&name);
            let Some(name) = name.to_str() else {
                let name = name.to_string_lossy().into();
                let fault = whole(&name, "the file's name is not UTF-8: rename it");
                found.insert(name, Found::Faulty([fault].into()));
                continue;
            };
            let name: Arc<str> = name.into();
            let Some((stamp, what)) = self.look(&path, &name) else { continue };
            if let Some(stamp) = stamp {
                seen.insert(name.clone(), (stamp, what.clone()));
            }
            found.insert(name, what);
        }
        self.seen = seen;
        Ok(found)
    }

    /// What the file holds, with its stamp if it need not be read again while that stays; `None` if
    /// the file went away meanwhile.
    fn look(&mut self, path: &Path, name: &Arc<str>) -> Option<(Option<Stamp>, Found)> {
        let faulty = |message: String| Some((None, Found::Faulty([whole(name, &message)].into())));
        let stamp = match path.metadata() {
            Ok(metadata) => {
                if self.open.is_none() && is_open(&metadata, path) {
                    self.open = Some(path.to_owned());
                }
                Stamp::of(&metadata)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => return None,
            Err(e) => return faulty(format!("cannot be looked at ({e}): check where it links to")),
        };
        if let Some((_, found)) = self.seen.get(name).filter(|(last, _)| *last == stamp) {
            return Some((Some(stamp), found.clone()));
        }
        match read(path) {
            Ok((before, after, text)) => {
                let found = match document::parse(&text, name, &self.trust_domain) {
                    Ok(documents) => Found::Documents(documents.into()),
                    Err(faults) => Found::Faulty(faults.into()),
                };
                Some(((before == after && after.is_settled()).then_some(after), found))
            }
            Err(e) => faulty(format!("cannot be read: {e}")),
        }
    }
}

/// The text of a file and its stamps before and after it was read.
fn read(path: &Path) -> io::Result<(Stamp, Stamp, String)> {
    // Without O_NONBLOCK, opening a FIFO would wait for its writer for ever.
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file: remove it or rename it"));
    }
    let mut bytes = Vec::new();
    // One byte more shows that there is too much; the parser says so.
    (&file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        // What is cut in the midst of a character is not the file's fault; the parser only looks at the size.
        bytes.fill(b'#');
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8: save it as UTF-8"))?;
    Ok((Stamp::of(&metadata), Stamp::of(&file.metadata()?), text))
}

/// Whether everybody may write to it. What Kubernetes mounts from a ConfigMap looks so and cannot be written to.
fn is_open(of: &Metadata, path: &Path) -> bool {
    let is_read_only =
        || rustix::fs::statvfs(path).is_ok_and(|of| of.f_flag.contains(StatVfsMountFlags::RDONLY));
    of.mode() & 0o002 != 0 && !is_read_only()
}

/// Whether a file of this name holds entries.
pub(super) fn is_entry_file(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    !name.starts_with(b".") && (name.ends_with(b".yaml") || name.ends_with(b".yml"))
}

fn whole(file: &Arc<str>, message: &str) -> Fault {
    Fault { file: file.clone(), line: 0, column: 0, message: message.to_owned() }
}
