//! Where things lie when nobody says so: what the defaults depend on.

use std::path::{Path, PathBuf};

const SYSTEM_DATA: &str = "/var/lib/countersign";
const SYSTEM_SOCKET: &str = "/run/countersign/api.sock";

/// What the defaults depend on. Read once, at the edge, so that tests can say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Whether we are root.
    pub is_root: bool,
    /// `$STATE_DIRECTORY`, as systemd sets it.
    pub state_directory: Option<PathBuf>,
    /// `$RUNTIME_DIRECTORY`, as systemd sets it.
    pub runtime_directory: Option<PathBuf>,
    /// `$XDG_STATE_HOME`, or what it stands for: `$HOME/.local/state`.
    pub state_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_home: Option<PathBuf>,
    /// `$COUNTERSIGN_ADMIN`, the admin socket for the CLI.
    pub admin: Option<PathBuf>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // systemd lists several directories with colons; ours is the first.
        let first = |name| {
            let all = std::env::var(name).ok()?;
            all.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
        };
        Self {
            is_root: rustix::process::geteuid().is_root(),
            state_directory: first("STATE_DIRECTORY"),
            runtime_directory: first("RUNTIME_DIRECTORY"),
            state_home: path("XDG_STATE_HOME").or_else(|| Some(path("HOME")?.join(".local/state"))),
            runtime_home: path("XDG_RUNTIME_DIR"),
            admin: path("COUNTERSIGN_ADMIN"),
        }
    }

    /// The data directory.
    pub(super) fn data(&self) -> Option<PathBuf> {
        match (&self.state_directory, self.is_root) {
            (Some(directory), _) => Some(directory.clone()),
            (None, true) => Some(PathBuf::from(SYSTEM_DATA)),
            (None, false) => Some(self.state_home.as_ref()?.join("countersign")),
        }
    }

    /// The API socket.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match (&self.runtime_directory, self.is_root) {
            (Some(directory), _) => Some(directory.join("api.sock")),
            (None, true) => Some(PathBuf::from(SYSTEM_SOCKET)),
            (None, false) => Some(self.runtime_home.as_ref()?.join("countersign/api.sock")),
        }
    }

    /// The admin socket that the CLI asks: that of `data` if it is given, else `$COUNTERSIGN_ADMIN`, else that
    /// of the default data directory.
    #[must_use]
    pub fn admin_socket(&self, data: Option<&Path>) -> Option<PathBuf> {
        match (data, &self.admin) {
            (Some(data), _) => Some(data.join(super::settings::ADMIN_SOCKET)),
            (None, Some(admin)) => Some(admin.clone()),
            (None, None) => Some(self.data()?.join(super::settings::ADMIN_SOCKET)),
        }
    }
}
