//! Hashes of executables, remembered where the file system makes that sound.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;

use super::Missing;

/// The largest executable that is hashed.
const MOST_BYTES: u64 = 1 << 30;
/// The longest that hashing one may take.
const MOST_TIME: Duration = Duration::from_secs(10);
/// Hashes that are remembered: more different executables hardly ask on one machine.
const REMEMBERED: usize = 1024;
/// A file changed less than this ago may change again without its ctime showing it.
const SETTLED: Duration = Duration::from_secs(2);

/// File systems on which device, inode, ctime and size name one content (statfs(2)). Not overlayfs, whose
/// ctime is that of the layer below, nor those of a network or of user space.
const SOUND: [u32; 5] = [
    0xef53,      // ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0xf2f5_2010, // f2fs
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Content {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    size: u64,
}

/// The hashes of the executables that were seen lately.
#[derive(Debug, Default)]
pub(super) struct Hashes(Mutex<HashMap<Content, String>>);

impl Hashes {
    /// The SHA-256 of an executable, in lower-case hexadecimal digits, or why there is none.
    pub(super) fn of(&self, mut file: &File) -> io::Result<Result<String, Missing>> {
        let before = content(file)?;
        if before.size > MOST_BYTES {
            return Ok(Err(Missing::TooLarge));
        }
        let sound = is_sound(file, &before);
        if let Some(hash) =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&before).filter(|_| sound)
        {
            return Ok(Ok(hash.clone()));
        }
        let started = Instant::now();
        let mut context = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; 1 << 18];
        let mut total = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            if total > MOST_BYTES {
                return Ok(Err(Missing::TooLarge)); // It grew while it was read.
            }
            if started.elapsed() > MOST_TIME {
                return Ok(Err(Missing::TooSlow));
            }
            context.update(buffer.get(..read).unwrap_or_default());
        }
        let hash = data_encoding::HEXLOWER.encode(context.finish().as_ref());
        if sound && content(file)? == before {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= REMEMBERED {
                known.clear(); // Rare, and costs one hash each; no order to keep.
            }
            known.insert(before, hash.clone());
        }
        Ok(Ok(hash))
    }
}

fn content(file: &File) -> io::Result<Content> {
    let m = file.metadata()?;
    Ok(Content { device: m.dev(), inode: m.ino(), changed: (m.ctime(), m.ctime_nsec()), size: m.size() })
}

fn is_sound(file: &File, content: &Content) -> bool {
    let kind = rustix::fs::fstatfs(file).ok().and_then(|fs| u32::try_from(fs.f_type).ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = u64::try_from(content.changed.0).unwrap_or_default();
    kind.is_some_and(|kind| SOUND.contains(&kind)) && Duration::from_secs(changed) + SETTLED < now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_content_also_after_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let hashes = Hashes::default();
        for text in ["", "abc", "abd"] {
            std::fs::write(&path, text).unwrap();
            let expected =
                data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
            assert_eq!(hashes.of(&File::open(&path).unwrap()).unwrap(), Ok(expected));
        }
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(MOST_BYTES + 1).unwrap();
        assert_eq!(Hashes::default().of(&file).unwrap(), Err(Missing::TooLarge));
    }
}
