//! Who asks, and how it is delivered: the server of Countersign.

pub mod sds;
