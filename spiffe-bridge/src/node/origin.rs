//! Where a connection comes from, for people to read and for limits to count by. What is granted depends on the
//! attested selectors alone.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Number of the connection, counted from the start of the server.
    pub connection: u64,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A process on this node, as the kernel told when it connected.
    Local {
        /// Process id in the server's PID namespace.
        pid: u32,
        /// Effective user id when it connected.
        uid: u32,
        /// Effective group id when it connected.
        gid: u32,
    },
    /// A peer on the network, which proved the key of its certificate.
    Remote {
        /// Where it connected from.
        address: SocketAddr,
        /// What its certificate is known by.
        name: Arc<str>,
    },
    /// A process on this node that asks on behalf of others, and proved the key of an X509-SVID of ours.
    Broker {
        /// Process id in the server's PID namespace, when it connected.
        pid: u32,
        /// Effective user id when it connected.
        uid: u32,
        /// Its SPIFFE ID.
        id: Arc<str>,
        /// Whose pids it speaks of.
        pids: Pids,
    },
}

/// Whose process ids a caller speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pids {
    /// Those of the server's PID namespace.
    Ours,
    /// Those of another: its 7 is not our 7.
    Others,
}

/// On whose account it goes what a caller makes the server keep.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Account {
    /// A user of this node.
    User(u32),
    /// Whoever has a certificate of that name.
    Certificate(Arc<str>),
}

impl Caller {
    /// A process on this node.
    #[must_use]
    pub fn local(connection: u64, pid: u32, uid: u32, gid: u32) -> Self {
        Self { connection, origin: Origin::Local { pid, uid, gid } }
    }

    /// On whose account it goes what this caller makes the server keep.
    #[must_use]
    pub fn account(&self) -> Account {
        match &self.origin {
            Origin::Local { uid, .. } => Account::User(*uid),
            Origin::Remote { name, .. } => Account::Certificate(name.clone()),
            Origin::Broker { id, .. } => Account::Certificate(id.clone()),
        }
    }

    /// Its process, if it is one of this node.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.origin {
            Origin::Local { pid, .. } | Origin::Broker { pid, .. } => Some(pid),
            Origin::Remote { .. } => None,
        }
    }

    /// Its user, if it is a process of this node.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        match self.origin {
            Origin::Local { uid, .. } | Origin::Broker { uid, .. } => Some(uid),
            Origin::Remote { .. } => None,
        }
    }
}

/// For a line of a log.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { pid, uid, .. } => write!(f, "pid {pid}, uid {uid}"),
            Self::Remote { address, name } => write!(f, "{address}, {name}"),
            Self::Broker { pid, id, .. } => write!(f, "broker {id}, pid {pid}"),
        }
    }
}
