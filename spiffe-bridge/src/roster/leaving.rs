//! Who may be let go at an operator's word: whoever may still use what it has is not.

use serde::Serialize;

use super::HolderKey;
use super::book::Book;
use crate::clock::Timestamp;

/// A member that may go, as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaver {
    /// The SPIFFE IDs that it had.
    pub identities: Vec<Box<str>>,
    /// When it was last known to be there.
    pub seen: Timestamp,
    /// The end of the last certificate that it was given.
    pub not_after: Option<Timestamp>,
    /// Names of which it had something.
    pub names: usize,
}

/// Why a member stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// There is nothing to let go.
    #[error(
        "it is no member of the roster: countersign streams --not-holding NAME -o json lists the holders of a name"
    )]
    Unknown,
    /// It would be a member again at its next report.
    #[error("it is connected: drain it first")]
    Connected,
    /// What it has it may use.
    #[error("its process is alive: end it, and it leaves by itself")]
    Alive,
}

impl Book {
    /// The member that would go.
    pub(super) fn leaver(&self, holder: &HolderKey) -> Result<Leaver, Stays> {
        let member = self.members.get(holder).ok_or(Stays::Unknown)?;
        if member.is_connected {
            return Err(Stays::Connected);
        }
        let (seen, not_after, names) = (member.seen, member.not_after, member.names.len());
        Ok(Leaver { identities: member.identities.clone(), seen, not_after, names })
    }
}
