//! The half beside the workloads: attested caller → entries → keys → signature → [`WorkloadUpdate`].
//!
//! [`WorkloadUpdate`]: crate::identity::WorkloadUpdate

mod session;

pub use session::{Caller, EndReason, Session, SessionState, Sessions};
