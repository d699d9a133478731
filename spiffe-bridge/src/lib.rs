//! What is issued, to whom, and why.
//!
//! `spiffe-bridge` attests callers, holds the registration entries, makes workload keys, has them
//! signed, and keeps the last good credential of everybody it serves. It delivers nothing: it binds
//! no socket, reads no environment and no argv, spawns nothing at construction, names no Envoy type
//! and installs no global. `sds-server` does those things.
//!
//! The modules stand in the order of their arrows: each imports only from those above it.
//!
//! ```text
//! clock  identity  keys  x509  jose  store  audit  registration  attest  authority  roster  node
//! ```
//!
//! Two halves meet at one seam: [`node`] (beside the workloads) asks [`authority`] (which signs) for
//! three things only: to *sync* what it may serve, to *sign* public keys, and to *report* receipts.

pub mod attest;
pub mod audit;
pub mod authority;
pub mod clock;
pub mod identity;
pub mod jose;
pub mod keys;
pub mod node;
pub mod registration;
pub mod roster;
pub mod store;
pub mod x509;
