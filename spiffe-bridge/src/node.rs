//! The half beside the workloads: attested caller → entries → keys → signature → [`WorkloadUpdate`].
//!
//! ```text
//! CallerTask ── selectors ──► Node ──► Engine ── public key ──► authority
//! RemoteTask                           (one)   ◄── chain ──────┘
//!     │  (one a connection)
//!     ◄──────── View: WorkloadUpdate ───┘
//!     └─ looks at the caller again ──► Session ─► every stream of the connection
//! ```
//!
//! Invariants: workload keys are made here and leave only in an SVID; equal identities share one SVID
//! and one renewal; a failed renewal never takes a valid SVID away; a removed entry ends its renewal at
//! once; nothing is published to a connection whose process is not the one that was attested, or whose certificate
//! does not open the door any more.
//!
//! [`WorkloadUpdate`]: crate::identity::WorkloadUpdate

mod bell;
mod broker;
mod cache;
mod caller;
mod end;
mod engine;
mod known;
mod origin;
mod own;
mod pace;
mod refusals;
mod remote;
mod renewal;
mod rounds;
mod seal;
mod session;
mod slot;
mod status;
mod tokens;
mod view;
mod wants;

pub use broker::BrokerTask;
pub use caller::CallerTask;
pub use end::EndReason;
pub use engine::{Engine, Node, NodeClosed, open};
pub use origin::{Account, Caller, Origin, Pids};
pub use own::OwnIdentity;
pub use pace::{TOKEN_BURST, TOKENS_PER_SECOND};
pub use refusals::Refusals;
pub use remote::RemoteTask;
pub use renewal::Config;
pub use rounds::Rounds;
pub use seal::{SealError, SealingKey};
pub use session::{Follower, Session, SessionState, Sessions};
pub use status::{IdentityStatus, NodeStatus};
pub use tokens::{MAX_TOKENS_PER_IDENTITY, TokenFollower, TokenRefused, TokenSpec};
pub use wants::{Interest, MAX_WANTS, Want};
