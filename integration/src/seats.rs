//! How the server can tell two Envoys on one machine apart: by their users, or by their programs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::scratch::Scratch;
use crate::tools::Release;

/// Far above the users that a system has.
const FIRST_UID: u32 = 20_001;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seats {
    /// With root: each Envoy runs as a user of its own, and its selector is `unix:uid:…`.
    Users,
    /// Without: each runs from a copy of its own, and its selector is `unix:path:…`.
    Programs,
}

/// A place for one Envoy, which nobody else has.
#[derive(Debug, Clone)]
pub struct Seat {
    pub uid: Option<u32>,
    pub program: PathBuf,
    /// What an entry selects it by.
    pub selector: String,
}

impl Seats {
    /// What this process may do. Asked, not guessed: root in a container may lack the right.
    #[must_use]
    pub fn here() -> Self {
        let changes_user = Command::new("/bin/true").gid(FIRST_UID).uid(FIRST_UID).status();
        if changes_user.is_ok_and(|status| status.success()) { Self::Users } else { Self::Programs }
    }

    /// What an entry selects this very process by, and no Envoy.
    ///
    /// # Errors
    /// This process does not know its program.
    pub fn own_selector(self) -> Result<String> {
        Ok(match self {
            Self::Users => format!("unix:uid:{}", rustix::process::geteuid().as_raw()),
            Self::Programs => format!("unix:path:{}", std::env::current_exe()?.canonicalize()?.display()),
        })
    }

    /// The seat number `nth` (from 0), its files under `scratch`.
    ///
    /// # Errors
    /// Envoy cannot be fetched or copied.
    pub fn take(self, scratch: &Scratch, nth: u32) -> Result<Seat> {
        self.take_for(Release::default(), scratch, nth)
    }

    /// The same for an Envoy of that release.
    ///
    /// # Errors
    /// Envoy cannot be fetched or copied.
    pub fn take_for(self, release: Release, scratch: &Scratch, nth: u32) -> Result<Seat> {
        let envoy = release.envoy()?;
        match self {
            Self::Users => {
                let uid = FIRST_UID + nth;
                let program = if others_may_run(envoy) {
                    envoy.to_path_buf()
                } else {
                    copied(scratch, "envoy", envoy)?
                };
                Ok(Seat { uid: Some(uid), program, selector: format!("unix:uid:{uid}") })
            }
            Self::Programs => {
                // A hard or symbolic link would be one file with one path to the kernel.
                let program = copied(scratch, &format!("envoy-{nth}"), envoy)?;
                let selector = format!("unix:path:{}", program.canonicalize()?.display());
                Ok(Seat { uid: None, program, selector })
            }
        }
    }
}

/// `program` itself if other users can reach and run it, else a copy that they can.
///
/// # Errors
/// It cannot be copied.
pub fn runnable(scratch: &Scratch, name: &str, program: &Path) -> Result<PathBuf> {
    if others_may_run(program) { Ok(program.to_path_buf()) } else { copied(scratch, name, program) }
}

/// A target directory below a home of mode 0700 is out of reach for other users.
fn others_may_run(program: &Path) -> bool {
    program.ancestors().all(|step| fs::metadata(step).is_ok_and(|found| found.mode() & 0o001 != 0))
}

/// A copy of `from` that any user can run, under a path of its own.
///
/// # Errors
/// It cannot be copied.
pub fn copied(scratch: &Scratch, name: &str, from: &Path) -> Result<PathBuf> {
    let to = scratch.dir("bin", None)?.join(name);
    if !to.exists() {
        fs::copy(from, &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    Ok(to)
}
