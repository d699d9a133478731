//! JOSE as SPIFFE uses it: JWT-SVIDs, WIT-SVIDs, and bundles as JWK Sets.
//!
//! ```text
//! algorithm  object ─► jws, jwk ─► jwt_svid, wit_svid          document (written)   bundle (read)
//! ```
//!
//! Tokens are written and read by hand, over aws-lc-rs: they are few and simple, and what is not here cannot be
//! misused. Absent, on purpose: symmetric algorithms, `none`, encryption, JSON serialisation, keys that a header
//! brings along (`jwk`, `jku`, `x5c`), and critical extensions.
//!
//! Invariants: `alg` is judged before a key is looked for (JW-04); a token is verified under the keys of its own
//! subject's trust domain and of its own kind, and no other (invariant 9); what a token says is never repeated in an
//! error.

pub mod algorithm;
pub mod bundle;
pub mod document;
pub mod jwk;
pub mod jws;
pub mod jwt_svid;
pub mod object;
pub mod wit_svid;

pub use algorithm::{Algorithm, UnknownAlgorithm};
