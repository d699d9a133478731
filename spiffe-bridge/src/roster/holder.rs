//! Who holds something: known by what the kernel or a certificate vouches for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::attest::{NotAKey, ProcessKey};

/// A holder, by a name that outlives connections and restarts of the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HolderKey {
    /// A process of this node: all its connections are one holder.
    Process(ProcessKey),
    /// A remote caller, by what its certificate is known by.
    Remote(Arc<str>),
}

impl HolderKey {
    /// Whether it certainly holds nothing any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Process(key) => key.is_gone(),
            Self::Remote(_) => false,
        }
    }

    /// The process id of a process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(key) => Some(key.pid()),
            Self::Remote(_) => None,
        }
    }
}

impl fmt::Display for HolderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(key) => write!(f, "process:{key}"),
            Self::Remote(name) => write!(f, "remote:{name}"),
        }
    }
}

impl FromStr for HolderKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        match text.split_once(':') {
            Some(("process", key)) => Ok(Self::Process(key.parse()?)),
            Some(("remote", name)) if !name.is_empty() => Ok(Self::Remote(name.into())),
            _ => Err(NotAKey),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_prints_what_it_reads() {
        let own = HolderKey::Process(ProcessKey::of_pid(std::process::id()).unwrap());
        for holder in [own, HolderKey::Remote("CN=proxy:1".into())] {
            assert_eq!(holder.to_string().parse(), Ok(holder));
        }
        assert!("somebody".parse::<HolderKey>().is_err() && "remote:".parse::<HolderKey>().is_err());
    }
}
