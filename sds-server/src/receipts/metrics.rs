//! What is counted of receipts.

use metrics::counter;
use spiffe_bridge::roster::Standing;

/// Why a flush of statistics was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too large, compressed, unreadable, not whole in time, or counted in deltas.
    Message,
    /// The process may not be heard: it is not the one that connected, or nothing is known of it.
    Session,
    /// The process flushes more often than it is listened to.
    Rate,
}

impl Refused {
    pub(super) fn count(self) {
        let reason = match self {
            Self::Message => "message",
            Self::Session => "session",
            Self::Rate => "rate",
        };
        counter!("countersign_receipts_refused_total", "reason" => reason).increment(1);
    }
}

/// A flush was taken.
pub(super) fn taken() {
    counter!("countersign_receipts_total").increment(1);
}

/// A name of a client stands otherwise than before.
pub(super) fn stands(standing: Standing) {
    let standing = match standing {
        Standing::Sent => "sent",
        Standing::Refused => "refused",
        Standing::Acknowledged => "acknowledged",
        Standing::PossiblyApplied => "possibly_applied",
        Standing::ProvedApplied => "proved_applied",
    };
    counter!("countersign_receipts_standings_total", "standing" => standing).increment(1);
}
