//! Attestors of workloads: one file each.

pub(super) mod unix;
