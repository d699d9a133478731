//! A directory for one run, which the users of the Envoys may enter, removed at the end.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// # Errors
    /// The system's temporary directory cannot be written.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("countersign-")
            .tempdir()
            .context("make a temporary directory")?;
        // 0700 by default: an Envoy of another user could not reach the server's socket.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        Ok(Self(dir))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A directory inside, that belongs to `owner` (needs root).
    ///
    /// # Errors
    /// It cannot be made or given away.
    pub fn dir(&self, name: &str, owner: Option<u32>) -> Result<PathBuf> {
        let dir = self.path().join(name);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        if owner.is_some() {
            chown(&dir, owner, owner).with_context(|| format!("give {} to {owner:?}", dir.display()))?;
        }
        Ok(dir)
    }
}
