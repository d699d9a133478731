//! The file with no holes where it grew: what is written later goes over what is there.
//!
//! A file that redb makes longer is a hole at first. On ext4 an fsync of data in a hole waits for one of the kernel's workers,
//! which are anybody's, and late beside a crowd that opens and closes sockets. Every answer of ours waits for an fsync.
//! docs/decisions/0020-allocator.md

use std::io;
use std::ops::Bound;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// So much is filled each time that it grows: more would hold up those who wait. A larger store has pages to use again.
const AT_ONCE: u64 = 16 << 20;
const PIECE: u64 = 1 << 20;

/// redb's own, filled as it grows.
#[derive(Debug)]
pub(super) struct Filled(FileBackend);

type Place = Bound<u64>;
type Locked<T> = Result<T, BackendError>;

impl Filled {
    pub(super) fn new(file: FileBackend) -> Self {
        Self(file)
    }
}

impl StorageBackend for Filled {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.0.len()?;
        self.0.set_len(len)?;
        let end = len.min(before.saturating_add(AT_ONCE));
        let nothing = vec![0; usize::try_from(PIECE).unwrap_or_default()];
        let mut at = before;
        while at < end {
            let count = (end - at).min(PIECE);
            let piece = usize::try_from(count).ok().and_then(|count| nothing.get(..count));
            self.0.write(at, piece.unwrap_or_default())?;
            at += count;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Place, end: Place) -> Locked<bool> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Place, end: Place) -> Locked<bool> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Place, end: Place) -> Locked<()> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Place, end: Place) -> Locked<()> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Place, end: Place) -> Locked<()> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Place, end: Place) -> Locked<bool> {
        self.0.query_lock_range(start, end)
    }
}
