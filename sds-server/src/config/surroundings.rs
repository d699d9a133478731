//! What the configuration points at: directories that the server would refuse, or could not use, found before
//! it is started. Nothing is made or changed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Resource, getrlimit};

use super::settings::without_key;
use super::{Problem, Settings};
use crate::endpoint::tls::authorities;
use crate::endpoint::{limits, uds};
use crate::runtime::with_cause;

/// Who else may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What is wrong around a server with `settings` that runs as we do, each with what to do.
#[must_use]
pub fn problems(settings: &Settings) -> Vec<Problem> {
    let found = [
        ("socket", socket(&settings.socket)),
        ("broker.socket", settings.broker.socket.as_deref().and_then(socket)),
        ("data", data(&settings.data)),
        ("entries", entries(&settings.entries)),
        ("remote.client_ca", settings.remote.client_ca.as_deref().and_then(client_ca)),
    ];
    let problem =
        |(key, advice): (_, Option<String>)| Some(Problem { key, advice: without_key(key, &advice?) });
    found.into_iter().filter_map(problem).collect()
}

/// What the server would do otherwise than `settings` say, in a process that may open as many files as this one. It
/// starts all the same, and a service manager may give it more.
#[must_use]
pub fn notes(settings: &Settings) -> Vec<Problem> {
    // The server raises its own limit to the hard one.
    let Some(files) = getrlimit(Resource::Nofile).maximum else { return Vec::new() };
    let (asked, most) = (u64::from(settings.limits.connections), limits::of_files(files));
    let advice = format!(
        "{asked} is more than three quarters of the {files} files that a process may open here: the server \
         would take {most}; give at most that, or raise the limit (LimitNOFILE= in the unit, ulimit -Hn)"
    );
    let is_cut = asked > most;
    is_cut.then_some(Problem { key: "limits.connections", advice }).into_iter().collect()
}

fn socket(path: &Path) -> Option<String> {
    let directory = path.parent()?;
    if let Err(error) = uds::look_at(directory) {
        return Some(with_cause(&error));
    }
    writable(directory)
}

fn data(path: &Path) -> Option<String> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        // `init` makes it.
        Err(error) if error.kind() == ErrorKind::NotFound => return writable(path),
        Err(error) => {
            return Some(format!("cannot look at {path:?} ({error}): run this as the server's user"));
        }
    };
    let (mode, us) = (found.mode() & 0o777, rustix::process::geteuid());
    if !found.is_dir() {
        return Some(format!("{path:?} is not a directory: remove it, or choose another"));
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        let path = path.display();
        return Some(format!(
            "{path} has mode {mode:04o}, and others must not write to it: run chmod 0700 {path}"
        ));
    }
    if !us.is_root() && found.uid() != us.as_raw() {
        let owner = found.uid();
        return Some(format!(
            "{path:?} belongs to user {owner}: run as that user, or give it to ours with chown"
        ));
    }
    writable(path)
}

fn entries(path: &Path) -> Option<String> {
    match fs::read_dir(path) {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some(format!("there is no directory {path:?}: make it, even if it is empty"))
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Some(format!("{path:?} is not a directory: name the directory that the documents lie in"))
        }
        Err(error) => Some(format!("{path:?} cannot be read ({error}): let the server's user read it")),
    }
}

/// Whether it is one of our own CAs is known to the running server alone.
fn client_ca(path: &Path) -> Option<String> {
    authorities::look_at(path).err().map(|error| with_cause(&error))
}

/// Whether we may put something into `path`, or make it: looks at the nearest ancestor that is there.
fn writable(path: &Path) -> Option<String> {
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    match accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => None,
        Err(error) => Some(format!("cannot write to {there:?} ({error}): let the server's user write to it")),
    }
}
