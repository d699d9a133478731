//! How much callers may take, together and each: permits, and the sizes of HTTP/2.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use spiffe_bridge::clock::duration;

/// Bounds on what callers may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Connections to the API socket; at most three quarters of the files that the process may open. The first
    /// connection of a process counts double: its pidfd is a file too.
    pub connections: u32,
    /// Connections of one user id, counted alike; at most three quarters of all, so that no user can keep the
    /// others out.
    pub connections_per_uid: u32,
    /// Time from connecting to the first request; a connection that sends none by then is closed.
    #[serde(with = "duration")]
    pub first_request: Duration,
    /// Open streams of one connection. Envoy opens one for each secret, unless it uses ADS.
    pub streams_per_connection: u32,
    /// Greatest size of a request's headers, in bytes.
    pub header_list_bytes: u32,
    /// A connection on which nothing came for this long is asked for a sign of life.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// A connection that gives no sign of life for this long after it was asked is closed.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    /// Time that open work gets after SIGTERM.
    #[serde(with = "duration")]
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_uid: 12_288,
            first_request: Duration::from_secs(10),
            streams_per_connection: 4096,
            header_list_bytes: 16_384,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            drain: Duration::from_secs(10),
        }
    }
}

/// Why a connection was closed before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All connections are taken.
    #[error("all connections are taken (limits.connections)")]
    Total,
    /// This user's connections are taken.
    #[error("this user's connections are taken (limits.connections_per_uid)")]
    PerUid,
    /// The kernel did not tell who it is.
    #[error("the kernel did not tell who connected")]
    NoCredentials,
    /// It sent no request in time.
    #[error("no request came in time (limits.first_request)")]
    Silent,
}

impl Refused {
    pub(super) const ALL: [Self; 4] = [Self::Total, Self::PerUid, Self::NoCredentials, Self::Silent];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::PerUid => "per_uid",
            Self::NoCredentials => "no_credentials",
            Self::Silent => "silent",
        }
    }
}

/// Counts connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Limits {
    total: u32,
    per_uid: u32,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    by_uid: HashMap<u32, u32>,
}

/// The right to one connection, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    uid: u32,
    files: u32,
    counts: Arc<Mutex<Counts>>,
}

impl Limits {
    /// The limits of `config` for a process that may open `files` files. The store, the admin API and
    /// attestation need some too, and a pidfd can outlive the connection that brought it: hence three quarters.
    #[must_use]
    pub fn new(config: &Config, files: u64) -> Self {
        let most = u32::try_from(files / 4 * 3).unwrap_or(u32::MAX);
        let total = config.connections.min(most).max(2);
        let per_uid = config.connections_per_uid.min(total / 4 * 3).max(2);
        Self { total, per_uid, counts: Arc::default() }
    }

    /// Takes one connection for `uid` that holds `files` files.
    ///
    /// # Errors
    /// [`Refused::Total`] or [`Refused::PerUid`].
    pub fn permit(&self, uid: u32, files: u32) -> Result<Permit, Refused> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total.saturating_add(files) > self.total {
            return Err(Refused::Total);
        }
        let of_uid = counts.by_uid.get(&uid).copied().unwrap_or(0).saturating_add(files);
        if of_uid > self.per_uid {
            return Err(Refused::PerUid);
        }
        counts.by_uid.insert(uid, of_uid);
        counts.total += files;
        Ok(Permit { uid, files, counts: self.counts.clone() })
    }

    /// Files of the connections that hold a permit now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= self.files;
        if let Some(of_uid) = counts.by_uid.get_mut(&self.uid) {
            *of_uid -= self.files;
            if *of_uid == 0 {
                counts.by_uid.remove(&self.uid); // the map stays as small as the set of users
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, connections_per_uid: u32, files: u64) -> Limits {
        Limits::new(&Config { connections, connections_per_uid, ..Config::default() }, files)
    }

    #[test]
    fn one_user_cannot_keep_the_others_out() {
        let limits = limits(8, 8, 1000);
        let _first = limits.permit(1, 2).unwrap();
        let second = limits.permit(1, 2).unwrap();
        let _third = limits.permit(1, 2).unwrap();
        assert_eq!(limits.permit(1, 1).unwrap_err(), Refused::PerUid);
        let _other = limits.permit(2, 2).unwrap();
        drop(second);
        let _again = limits.permit(1, 2).unwrap();
        assert_eq!(limits.open(), 8);
    }

    #[test]
    fn the_total_stays_within_three_quarters_of_the_open_files() {
        let limits = limits(1000, 1000, 8);
        let _first = limits.permit(1, 2).unwrap();
        let _second = limits.permit(2, 2).unwrap();
        let _shared = limits.permit(2, 1).unwrap();
        assert_eq!(limits.permit(3, 2).unwrap_err(), Refused::Total);
    }

    #[test]
    fn a_permit_that_is_dropped_leaves_nothing_behind() {
        let limits = limits(4, 2, 1000);
        drop(limits.permit(7, 2).unwrap());
        assert_eq!(limits.open(), 0);
        assert!(limits.counts.lock().unwrap().by_uid.is_empty());
    }
}
