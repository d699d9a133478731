//! Who holds which version of what, and by which proof: durable, so that a rotation never has to guess.
//!
//! ```text
//! Report (from whoever delivers) ─► book (pure: who is a member, what each name stands at) ─► keeper ─► store
//!                                      └─► missing: who does not hold it yet, and why
//! ```
//!
//! A member is a process that an entry gives something to, from its first secret on. rotation.md, "Roster".
//!
//! - Evidence is of a [`HolderKey`], which the kernel (or a certificate) vouches for: nothing that a peer says of
//!   itself comes here, and nobody speaks for another.
//! - No evidence is never evidence: what was proved before a restart counts as acknowledged after it, and a roster
//!   without members answers "unknown", not "all".
//! - Writes are coalesced. What a crash takes is proof, or a member of the last second. For the latter the end of
//!   everything that was ever reserved to be signed is known from the authority's own records: until then somebody
//!   unaccounted for may hold a certificate, and the roster says so. docs/decisions/0004-one-window-in-flight.md
//! - Members and names are bounded; whoever finds no place is counted, and makes every answer incomplete.

mod book;
mod holder;
mod keeper;
mod leaving;
mod missing;
mod record;
mod standing;

pub use book::Config;
pub use holder::HolderKey;
pub use keeper::{Keeper, Roster, RosterError, RosterStatus, open};
pub use leaving::{Leaver, Stays};
pub use missing::{Answer, Enough, Missing, Wanted, Why};
pub use standing::{Means, NameRow, Presence, Refusal, Report, Standing};
