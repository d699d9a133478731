//! The nouns of SPIFFE: who (SPIFFE ID, trust domain, selector) and what they hold (SVID, bundle).
//!
//! Imports nothing else of this crate but the clock. Every value here has been checked once, at the edge; inside it
//! is right. SPIFFE IDs are parsed by the `spiffe` crate and not by us.

mod bundle;
mod id;
mod memo;
mod selector;
mod svid;
mod token;
mod token_key;
mod update;
mod version;

pub use bundle::TrustBundle;
pub use id::{
    IdError, MAX_ID_BYTES, is_reserved, parse_spiffe_id, parse_trust_domain, parse_workload_id, server_id,
    text_of,
};
pub use memo::Memo;
pub use selector::{Selector, SelectorError, SelectorSet};
pub use spiffe::{SpiffeId, TrustDomain};
pub use svid::{PrivateKey, Serial, X509Svid};
pub use token::{Token, TokenSvid};
pub use token_key::{Curve, KeyMaterial, TokenKey, TokenKeys};
pub use update::{Admitted, Identity, Reach, Trust, WorkloadUpdate};
pub use version::{ContentHash, Revision, Version};
