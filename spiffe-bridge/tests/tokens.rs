//! JWT-SVIDs, WIT-SVIDs and bundles as documents: rows JW, WI, TB and X5-19 to X5-24, and how tokens are issued.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

#[path = "tokens/bundle.rs"]
mod bundle;
#[path = "tokens/forge.rs"]
mod forge;
#[path = "tokens/issue.rs"]
mod issue;
#[path = "tokens/jwt.rs"]
mod jwt;
#[path = "tokens/wit.rs"]
mod wit;
