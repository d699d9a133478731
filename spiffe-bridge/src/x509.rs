//! DER in and out: leaves from a template, roots, lint, inspection, path validation. Decides nothing.
//!
//! ```text
//! root::self_sign ─► CaFacts ─► Draft ─ lint ─► Template ─ tbs ─► (reserve) ─► sign ─► assemble
//! ```
//!
//! - A [`Template`] exists only for a [`Draft`] that was linted, so nothing is signed by a profile
//!   that was never checked (rotation.md, "Issuing").
//! - Leaves are spliced from octets encoded once; rcgen and x509-parser are the oracles in the tests.
//! - No CA key passes through here: to-be-signed octets go out, a signature comes back. A workload's key comes by
//!   once, in [`served`], to be compared with its certificate.

mod algorithm;
pub mod crl;
mod der;
pub mod inspect;
mod lint;
mod pair;
pub mod root;
mod san;
mod serial;
pub mod served;
mod template;
pub mod verify;

pub use inspect::CaFacts;
pub use lint::{LintError, lint};
pub use pair::PairError;
pub use san::{DnsNames, MAX_DNS_NAMES, SanError};
pub use serial::random_serial;
pub use template::{Draft, Leaf, Template, TemplateError, TimeError, Validity, assemble};
