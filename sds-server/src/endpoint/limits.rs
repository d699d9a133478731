//! How much callers may take, together and each: permits, and the sizes of HTTP/2.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use spiffe_bridge::clock::duration;

/// Holders that are remembered, at least, before it is looked who of them holds nothing.
const HOLDERS: usize = 64;

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

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All connections are taken.
    #[error("all connections are taken (limits.connections)")]
    Total,
    /// The connections of this address are taken, or all of the door.
    #[error(
        "this address's connections are taken, or all of the door (remote.connections, remote.connections_per_address)"
    )]
    PerAddress,
    /// So many of this address have not finished their handshakes.
    #[error("too many unfinished handshakes of this address (remote.handshakes)")]
    Handshakes,
    /// Its handshake took too long.
    #[error("its TLS handshake was not finished in time (remote.handshake)")]
    HandshakeTime,
    /// No TLS, or not as we speak it, or a certificate that does not open the door.
    #[error("its TLS handshake failed: it needs TLS 1.3, h2 and a certificate of remote.client_ca's")]
    Tls,
    /// Its handshake failed on the socket for brokers, or its SVID proves nothing.
    #[error("its TLS handshake failed: a broker needs TLS 1.3, h2 and an X509-SVID of this trust domain")]
    Broker,
    /// This user's connections are taken.
    #[error("this user's connections are taken (limits.connections_per_uid)")]
    PerUid,
    /// The kernel did not tell who it is.
    #[error("the kernel did not tell who connected")]
    NoCredentials,
    /// It sent no request in time.
    #[error("no request came in time (limits.first_request)")]
    Silent,
    /// Another process wrote on it than the one that connected.
    #[error("another process writes on it than the one that connected: let each open its own")]
    AnotherWriter,
}

impl Refused {
    pub(super) const ALL: [Self; 10] = [
        Self::Total,
        Self::PerUid,
        Self::PerAddress,
        Self::Handshakes,
        Self::HandshakeTime,
        Self::Tls,
        Self::Broker,
        Self::NoCredentials,
        Self::Silent,
        Self::AnotherWriter,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::PerUid => "per_uid",
            Self::PerAddress => "per_address",
            Self::Handshakes => "handshakes",
            Self::HandshakeTime => "handshake_time",
            Self::Tls => "tls",
            Self::Broker => "broker",
            Self::NoCredentials => "no_credentials",
            Self::Silent => "silent",
            Self::AnotherWriter => "another_writer",
        }
    }
}

/// Counts connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Limits {
    total: u32,
    per_uid: u32,
    remote: u32,
    per_address: u32,
    counts: Arc<Counts>,
}

/// Who holds a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A user of this node.
    User(u32),
    /// An address of the network; of IPv6 its first half, which one host has for itself.
    Address(IpAddr),
}

impl Holder {
    /// The holder at `address`.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

/// Threads that accept look at these, and those that serve a crowd give back: only the former take the lock.
#[derive(Debug, Default)]
struct Counts {
    total: Count,
    remote: Count,
    permits: AtomicU64,
    holders: Mutex<Holders>,
}

/// Files that are taken.
#[derive(Debug, Default)]
struct Count(AtomicU32);

/// Who holds something, and some who did.
#[derive(Debug, Default)]
struct Holders {
    counts: HashMap<Holder, Arc<Count>>,
    /// So many are in the map when it is looked through for those who hold nothing any more.
    look_at: usize,
}

/// The right to one connection, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    files: u32,
    is_remote: bool,
    number: u64,
    of_holder: Arc<Count>,
    counts: Arc<Counts>,
}

impl Count {
    /// Whether `files` more, of which there are to be `most`, could be taken, and were.
    fn take(&self, files: u32, most: u32) -> bool {
        let more = |taken: u32| taken.checked_add(files).filter(|taken| *taken <= most);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn give_back(&self, files: u32) {
        self.0.fetch_sub(files, Ordering::AcqRel);
    }

    fn taken(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl Holders {
    fn count_of(&mut self, holder: Holder) -> Arc<Count> {
        if let Some(count) = self.counts.get(&holder) {
            return count.clone();
        }
        if self.counts.len() >= self.look_at {
            // Who holds something has the count as well. The map stays as small as the set of those.
            self.counts.retain(|_, count| Arc::strong_count(count) > 1);
            self.look_at = (self.counts.len() * 2).max(HOLDERS);
        }
        self.counts.entry(holder).or_default().clone()
    }
}

/// What connections may take of the `files` that a process may open. The store, the admin API and attestation need some
/// too, and a pidfd can outlive the connection that brought it: hence three quarters.
pub(crate) fn of_files(files: u64) -> u64 {
    files / 4 * 3
}

impl Limits {
    /// The limits of `config` for a process that may open `files` files.
    #[must_use]
    pub fn new(config: &Config, files: u64) -> Self {
        let most = u32::try_from(of_files(files)).unwrap_or(u32::MAX);
        let total = config.connections.min(most).max(2);
        let per_uid = config.connections_per_uid.min(total / 4 * 3).max(2);
        Self { total, per_uid, remote: 0, per_address: 0, counts: Arc::default() }
    }

    /// At most `handshakes` at one time, and a quarter of them from one holder.
    pub(super) fn of_handshakes(handshakes: u32) -> Self {
        let each = (handshakes / 4).max(1);
        let counts = Arc::default();
        Self { total: handshakes, per_uid: each, remote: handshakes, per_address: each, counts }
    }

    /// The same with a door to the network that has at most `connections` of all, and `per_address` from one address;
    /// never more than three quarters, so that no network can keep this node's callers out.
    #[must_use]
    pub fn with_remote(self, connections: u32, per_address: u32) -> Self {
        let remote = connections.min(self.total / 4 * 3);
        Self { remote, per_address: per_address.min(remote), ..self }
    }

    /// Takes one connection for `holder` that has `files` files.
    ///
    /// # Errors
    /// [`Refused::Total`], [`Refused::PerUid`] or [`Refused::PerAddress`].
    pub fn permit(&self, holder: Holder, files: u32) -> Result<Permit, Refused> {
        let of_holder = self.counts.holders.lock().unwrap_or_else(PoisonError::into_inner).count_of(holder);
        let (is_remote, counts) = (matches!(holder, Holder::Address(_)), self.counts.clone());
        let mut permit = Permit { files: 0, is_remote, number: 0, of_holder, counts };
        self.grow(&mut permit, files)?;
        permit.number = self.counts.permits.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(permit)
    }

    /// Takes `files` more for what holds `permit`.
    ///
    /// # Errors
    /// As [`Limits::permit`].
    pub fn grow(&self, permit: &mut Permit, files: u32) -> Result<(), Refused> {
        let (total, remote, of_holder) = (&self.counts.total, &self.counts.remote, &permit.of_holder);
        let (most, refused) = match permit.is_remote {
            true => (self.per_address, Refused::PerAddress),
            false => (self.per_uid, Refused::PerUid),
        };
        if !total.take(files, self.total) {
            return Err(Refused::Total);
        }
        if !of_holder.take(files, most) {
            total.give_back(files);
            return Err(refused);
        }
        if permit.is_remote && !remote.take(files, self.remote) {
            of_holder.give_back(files);
            total.give_back(files);
            return Err(refused);
        }
        permit.files += files;
        Ok(())
    }

    /// Files of the connections that hold a permit now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.counts.total.taken()
    }
}

impl Permit {
    /// Its number, counted from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of_holder.give_back(self.files);
        if self.is_remote {
            self.counts.remote.give_back(self.files);
        }
        self.counts.total.give_back(self.files);
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
        let _first = limits.permit(Holder::User(1), 2).unwrap();
        let second = limits.permit(Holder::User(1), 2).unwrap();
        let _third = limits.permit(Holder::User(1), 2).unwrap();
        assert_eq!(limits.permit(Holder::User(1), 1).unwrap_err(), Refused::PerUid);
        let _other = limits.permit(Holder::User(2), 2).unwrap();
        drop(second);
        let _again = limits.permit(Holder::User(1), 2).unwrap();
        assert_eq!(limits.open(), 8);
    }

    #[test]
    fn the_total_stays_within_three_quarters_of_the_open_files() {
        let limits = limits(1000, 1000, 8);
        let _first = limits.permit(Holder::User(1), 2).unwrap();
        let _second = limits.permit(Holder::User(2), 2).unwrap();
        let _shared = limits.permit(Holder::User(2), 1).unwrap();
        assert_eq!(limits.permit(Holder::User(3), 2).unwrap_err(), Refused::Total);
    }

    #[test]
    fn the_network_cannot_keep_this_nodes_callers_out_nor_one_address_the_others() {
        let limits = limits(16, 16, 1000).with_remote(100, 8);
        let address = |text: &str| Holder::at(text.parse().unwrap());
        let _first = limits.permit(address("192.0.2.1"), 8).unwrap();
        assert_eq!(limits.permit(address("::ffff:192.0.2.1"), 1).unwrap_err(), Refused::PerAddress);
        let second = limits.permit(address("2001:db8::1"), 4).unwrap();
        assert_eq!(
            limits.permit(address("192.0.2.2"), 1).unwrap_err(),
            Refused::PerAddress,
            "three quarters"
        );
        let _local = limits.permit(Holder::User(1), 4).unwrap();
        drop(second);
        let _net = limits.permit(address("2001:db8::ffff:1"), 1).unwrap();
        let same_half = limits.counts.holders.lock().unwrap().counts.contains_key(&address("2001:db8::2"));
        assert!(same_half, "one host has many addresses of IPv6");
    }

    #[test]
    fn a_permit_grows_within_the_same_bounds_and_gives_all_of_it_back() {
        let limits = limits(4, 3, 1000);
        let mut permit = limits.permit(Holder::User(7), 1).unwrap();
        limits.grow(&mut permit, 2).unwrap();
        assert_eq!(limits.grow(&mut permit, 1).unwrap_err(), Refused::PerUid);
        let _other = limits.permit(Holder::User(8), 1).unwrap();
        assert_eq!(limits.grow(&mut permit, 1).unwrap_err(), Refused::Total);
        assert_eq!(limits.open(), 4, "what was refused was not counted");
        drop(permit);
        assert_eq!(limits.open(), 1);
    }

    #[test]
    fn permits_that_are_dropped_leave_little_behind() {
        let limits = limits(4, 2, 1000);
        let _kept = limits.permit(Holder::User(7), 2).unwrap();
        for uid in 1000..2000 {
            drop(limits.permit(Holder::User(uid), 2).unwrap());
        }
        assert_eq!(limits.open(), 2);
        let holders = limits.counts.holders.lock().unwrap();
        assert!(holders.counts.len() <= HOLDERS && holders.counts.contains_key(&Holder::User(7)));
    }

    #[test]
    fn threads_that_take_and_give_back_at_one_time_never_have_more_than_there_is() {
        let limits = limits(8, 5, 1000);
        std::thread::scope(|scope| {
            for uid in 0..4 {
                let limits = &limits;
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let permit = limits.permit(Holder::User(uid % 2), 2);
                        assert!(limits.open() <= 8);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(limits.open(), 0);
    }
}
