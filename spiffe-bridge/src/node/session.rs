//! What one connection may have, as its streams see it: two halves of a channel.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::Context;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::bell::{Bell, Listener};
use super::origin::Caller;
use super::refusals::Refusals;
use super::wants::{Interest, Wants};
use crate::attest::{AttestError, Changed};
use crate::identity::WorkloadUpdate;
use crate::roster::HolderKey;

/// Why a connection gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// The process exited.
    ProcessExited,
    /// The process runs another program than when it was attested.
    ProcessExecuted,
    /// The process changed its user, group or supplementary groups.
    CredentialsChanged,
    /// The process was moved to another cgroup, by which its container or unit was known.
    ProcessMoved,
    /// The process could not be attested.
    NotAttested,
    /// The certificate of a remote caller has expired.
    CertificateExpired,
    /// The certificate of a remote caller is not one of the door's CAs, or not any more.
    CertificateNotTrusted,
    /// No entry gives the identity of a broker any more.
    NoEntry,
    /// The server is shutting down.
    Draining,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessExited => "the process that connected has exited",
            Self::ProcessExecuted => "the process that connected runs another program now: connect again",
            Self::CredentialsChanged => "the process that connected changed its credentials: connect again",
            Self::ProcessMoved => "the process that connected was moved to another cgroup: connect again",
            Self::NotAttested => "the process that connected could not be attested",
            Self::CertificateExpired => {
                "the certificate that the caller came with has expired: connect with a new one"
            }
            Self::CertificateNotTrusted => {
                "the certificate that the caller came with does not open this door"
            }
            Self::NoEntry => "no entry gives the identity that the caller came with",
            Self::Draining => "the server is shutting down",
        })
    }
}

impl From<Changed> for EndReason {
    fn from(changed: Changed) -> Self {
        match changed {
            Changed::Exited => Self::ProcessExited,
            Changed::Executed => Self::ProcessExecuted,
            Changed::Credentials => Self::CredentialsChanged,
            Changed::Moved => Self::ProcessMoved,
        }
    }
}

impl EndReason {
    /// Why a caller that was not attested gets nothing.
    pub(super) fn of(error: &AttestError) -> Self {
        match error {
            AttestError::Changed(changed) => (*changed).into(),
            _ => Self::NotAttested,
        }
    }
}

/// Where a connection stands.
#[derive(Debug, Clone)]
pub enum SessionState {
    /// The caller is still being looked at, or its first SVID is being signed: say nothing yet.
    ExpectAttestation,
    /// What it may have now. Each value replaces the one before it.
    Serving(Arc<WorkloadUpdate>),
    /// It gets nothing more.
    Ended(EndReason),
}

/// A connection's caller and what it may have. Every stream of the connection holds a clone.
#[derive(Debug, Clone)]
pub struct Session {
    caller: Arc<Caller>,
    state: watch::Receiver<SessionState>,
    bell: Arc<Bell>,
    check: Check,
    holder: Arc<OnceLock<HolderKey>>,
    wants: Wants,
}

/// The state of a session as one of its streams follows it.
#[derive(Debug)]
pub struct Follower {
    state: watch::Receiver<SessionState>,
    listener: Listener,
    is_fresh: bool,
}

impl Follower {
    /// The state, if it is news to this follower; else the task is woken when there is news.
    pub fn poll_news(&mut self, cx: &Context<'_>) -> Option<SessionState> {
        let news = std::mem::replace(&mut self.is_fresh, false) | self.listener.poll_rung(cx);
        news.then(|| self.state.borrow().clone())
    }
}

/// Looks at the attested process again; empty before it was attested.
type Look = Box<dyn Fn() -> Result<(), EndReason> + Send + Sync>;

#[derive(Clone, Default)]
struct Check(Arc<ArcSwapOption<Look>>);

impl Check {
    fn verify(&self) -> Result<(), EndReason> {
        self.0.load().as_deref().map_or(Ok(()), |look| look())
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check(..)")
    }
}

/// The writing half of a [`Session`].
#[derive(Debug)]
pub struct Sessions(watch::Sender<SessionState>, Check, Arc<Bell>, Arc<OnceLock<HolderKey>>, Wants);

impl Session {
    /// A session for `caller`, and the half that writes its state.
    #[must_use]
    pub fn channel(caller: Caller) -> (Sessions, Self) {
        let (sender, state) = watch::channel(SessionState::ExpectAttestation);
        let (check, bell) = (Check::default(), Arc::<Bell>::default());
        let holder = Arc::<OnceLock<HolderKey>>::default();
        let wants = Wants::default();
        let sessions = Sessions(sender, check.clone(), bell.clone(), holder.clone(), wants.clone());
        (sessions, Self { caller: Arc::new(caller), state, bell, check, holder, wants })
    }

    /// Who is at the other end.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Who the roster knows the caller by, if it is known: the same for every connection of one process.
    #[must_use]
    pub fn holder(&self) -> Option<&HolderKey> {
        self.holder.get()
    }

    /// For one stream to say which tokens it wants beside what the entries give.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.wants.interest()
    }

    /// Has every stream of the connection look again at what it may send.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Looks at the process again, before a new stream of its connection is served what is there already: a
    /// program that inherited the connection by exec is another caller. Takes some tens of microseconds.
    ///
    /// # Errors
    /// Why the session is over; its task will come to the same result.
    pub fn verify(&self) -> Result<(), EndReason> {
        if let SessionState::Ended(reason) = &*self.state.borrow() {
            return Err(*reason);
        }
        self.check.verify()
    }

    /// The state for one stream to follow, beginning with what it is now.
    #[must_use]
    pub fn follow(&self) -> Follower {
        let listener = Listener::new(self.bell.clone());
        Follower { state: self.state.clone(), listener, is_fresh: true }
    }

    /// The state and its changes; always the newest, never a queue.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.state.clone()
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        // Nobody writes it any more: as when the server shuts down. An ended one stays as it ended.
        self.publish(SessionState::Ended(EndReason::Draining));
    }
}

impl Sessions {
    /// Says how to look at the process again, once it was attested.
    pub(super) fn attested(&self, look: impl Fn() -> Result<(), EndReason> + Send + Sync + 'static) {
        self.1.0.store(Some(Arc::new(Box::new(look))));
    }

    /// As [`Session::holder`].
    pub(super) fn holder(&self) -> Option<&HolderKey> {
        self.3.get()
    }

    /// As [`Session::verify`].
    pub(super) fn verify(&self) -> Result<(), EndReason> {
        self.1.verify()
    }

    /// Which tokens its streams want.
    pub(super) fn wants(&self) -> &Wants {
        &self.4
    }

    /// Says who the roster knows the caller by. The first word stands.
    pub fn held_by(&self, holder: HolderKey) {
        let _ = self.3.set(holder);
    }

    /// Replaces the state. An ended session stays ended.
    pub fn publish(&self, state: SessionState) {
        let is_news = self.0.send_if_modified(|current| {
            let open = !matches!(current, SessionState::Ended(_));
            if open {
                *current = state;
            }
            open
        });
        if is_news {
            self.2.ring();
        }
    }

    /// Ends the session of a caller that could not even be looked at, and has `lines` say so.
    pub fn refuse(&self, caller: &Caller, error: &AttestError, lines: &Refusals) {
        lines.not_attested(&caller.origin, error);
        self.publish(SessionState::Ended(EndReason::of(error)));
    }

    /// Returns once nobody holds the session any more.
    pub async fn abandoned(&self) {
        self.0.closed().await;
    }
}
