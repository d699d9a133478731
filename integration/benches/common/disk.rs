//! A directory on a real disk, and what that disk takes to keep something.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::TempDir;

/// A temporary directory on the disk of the target directory: the system's may lie in memory, where
/// durability costs nothing.
pub fn directory() -> TempDir {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    // Short, for a socket's path has at most 107 octets.
    tempfile::Builder::new().prefix("bench-").tempdir_in(target).unwrap()
}

/// A file that is written over again and again, as a store's is.
pub struct Scratch(File);

impl Scratch {
    pub fn new(directory: &Path) -> Self {
        let mut file = File::create(directory.join("scratch")).unwrap();
        file.write_all(&[0; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        Self(file)
    }

    /// Writes 4 KiB durably, `times` times.
    pub fn sync(&mut self, times: u64) {
        for time in 0..times {
            self.0.seek(SeekFrom::Start(time * 4096)).unwrap();
            self.0.write_all(&[7; 4096]).unwrap();
            self.0.sync_data().unwrap();
        }
    }
}
