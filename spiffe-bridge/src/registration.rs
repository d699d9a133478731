//! Which process gets which identity: entries, from the operator's files to the index that is asked.
//!
//! ```text
//! *.yaml ─► directory (scan, decide, brake) ─► store: registration/file/<name> ─► Indexer ─► EntryIndex
//! ```
//!
//! - The directory is the truth. A file that cannot be read keeps its last accepted form, over restarts too.
//! - No accident withdraws many entries: see [`directory`] for the brake.
//! - The index follows the store and not the directory: what was accepted is what is served.
//! - An entry that could never match (unknown selector, foreign ID) is refused where it is written.
//! - Bundles of other trust domains and profiles stand in the same files, under the same rules.
//! - A profile stays in force while an accepted entry names it, whatever becomes of its file.

mod check;
pub mod directory;
pub mod document;
mod entry;
mod federated;
mod index;
mod indexer;
mod profile;
mod stored;

pub use check::{Report, check_directory};
pub use directory::{Directory, DirectoryHandle, DirectoryStatus};
pub use entry::{Entry, EntryId};
pub use federated::FederatedBundle;
pub use index::{EntryIndex, Needs};
pub use indexer::{IndexError, Indexer};
pub use profile::{DEFAULT_PROFILE, Profile, Terms};
