//! What one connection may have, as its streams see it: two halves of a channel.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use futures::task::AtomicWaker;

use super::bell::{Bell, Listener};
use super::end::EndReason;
use super::origin::Caller;
use super::refusals::Refusals;
use super::wants::{Interest, Wants};
use crate::attest::AttestError;
use crate::identity::WorkloadUpdate;
use crate::roster::HolderKey;

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
pub struct Session(Arc<Reading>);

/// What all clones of a session share: when it is dropped, nobody holds the session any more.
#[derive(Debug)]
struct Reading(Arc<Shared>);

/// The writing half of a [`Session`].
#[derive(Debug)]
pub struct Sessions(Arc<Shared>);

/// Together, as a server has ten thousand.
#[derive(Debug)]
struct Shared {
    caller: Arc<Caller>,
    state: Mutex<SessionState>,
    bell: Bell,
    check: Check,
    holder: OnceLock<HolderKey>,
    wants: Wants,
    /// Woken when the session has ended: the connection waits for nothing else.
    end: AtomicWaker,
    /// Set when nobody reads it any more, and then the writing half is woken.
    is_abandoned: AtomicBool,
    abandoned: AtomicWaker,
}

/// The state of a session as one of its streams follows it.
#[derive(Debug)]
pub struct Follower {
    session: Session,
    listener: Listener,
    is_fresh: bool,
}

/// Looks at the attested process again; empty before it was attested.
type Look = Box<dyn Fn() -> Result<(), EndReason> + Send + Sync>;

#[derive(Default)]
struct Check(ArcSwapOption<Look>);

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

impl Shared {
    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> Option<EndReason> {
        match &*self.state() {
            SessionState::Ended(reason) => Some(*reason),
            _ => None,
        }
    }
}

impl Session {
    /// A session for `caller`, and the half that writes its state.
    #[must_use]
    pub fn channel(caller: Caller) -> (Sessions, Self) {
        let shared = Arc::new(Shared {
            caller: Arc::new(caller),
            state: Mutex::new(SessionState::ExpectAttestation),
            bell: Bell::default(),
            check: Check::default(),
            holder: OnceLock::new(),
            wants: Wants::default(),
            end: AtomicWaker::new(),
            is_abandoned: AtomicBool::new(false),
            abandoned: AtomicWaker::new(),
        });
        (Sessions(shared.clone()), Self(Arc::new(Reading(shared))))
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }

    /// Who is at the other end.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.shared().caller
    }

    /// Who the roster knows the caller by, if it is known: the same for every connection of one process.
    #[must_use]
    pub fn holder(&self) -> Option<&HolderKey> {
        self.shared().holder.get()
    }

    /// For one stream to say which tokens it wants beside what the entries give.
    #[must_use]
    pub fn interest(&self) -> Interest {
        Interest::new(self.clone())
    }

    pub(super) fn wants(&self) -> &Wants {
        &self.shared().wants
    }

    /// Has every stream of the connection look again at what it may send.
    pub fn ring(&self) {
        self.shared().bell.ring();
    }

    /// Looks at the process again, before a new stream of its connection is served what is there already: a
    /// program that inherited the connection by exec is another caller. Takes some tens of microseconds.
    ///
    /// # Errors
    /// Why the session is over; its task will come to the same result.
    pub fn verify(&self) -> Result<(), EndReason> {
        self.shared().end().map_or_else(|| self.shared().check.verify(), Err)
    }

    /// The state for one stream to follow, beginning with what it is now.
    #[must_use]
    pub fn follow(&self) -> Follower {
        let listener = Listener::new(&self.shared().bell);
        Follower { session: self.clone(), listener, is_fresh: true }
    }

    /// Whether it has ended; if not, the task is woken when it does. One task can wait so: the connection's.
    pub fn poll_ended(&self, cx: &Context<'_>) -> bool {
        self.shared().end.register(cx.waker()); // before the look: the end does not fall between the two
        self.shared().end().is_some()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.is_abandoned.store(true, Ordering::Release);
        self.0.abandoned.wake();
    }
}

impl Follower {
    /// The state, if it is news to this follower; else the task is woken when there is news.
    pub fn poll_news(&mut self, cx: &Context<'_>) -> Option<SessionState> {
        let shared = &self.session.0.0;
        let news = std::mem::replace(&mut self.is_fresh, false) | self.listener.poll_rung(&shared.bell, cx);
        news.then(|| shared.state().clone())
    }

    /// Waits until the state is `wanted`, as it may be already, and gives it. Never a queue: states that were replaced
    /// meanwhile are not seen. Cancel safe.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&SessionState) -> bool) -> SessionState {
        self.is_fresh = true;
        poll_fn(|cx| {
            while let Some(state) = self.poll_news(cx) {
                if wanted(&state) {
                    return Poll::Ready(state);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.listener.leave(&self.session.0.0.bell);
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
        self.0.check.0.store(Some(Arc::new(Box::new(look))));
    }

    /// As [`Session::holder`].
    pub(super) fn holder(&self) -> Option<&HolderKey> {
        self.0.holder.get()
    }

    /// As [`Session::verify`].
    pub(super) fn verify(&self) -> Result<(), EndReason> {
        self.0.check.verify()
    }

    /// Which tokens its streams want.
    pub(super) fn wants(&self) -> &Wants {
        &self.0.wants
    }

    /// Says who the roster knows the caller by. The first word stands.
    pub fn held_by(&self, holder: HolderKey) {
        let _ = self.0.holder.set(holder);
    }

    /// Replaces the state. An ended session stays ended.
    pub fn publish(&self, state: SessionState) {
        let is_end = matches!(state, SessionState::Ended(_));
        let mut current = self.0.state();
        if matches!(*current, SessionState::Ended(_)) {
            return;
        }
        let before = std::mem::replace(&mut *current, state);
        drop((current, before)); // the last of an update may take a while to drop
        self.0.bell.ring();
        if is_end {
            self.0.end.wake();
        }
    }

    /// Ends the session of a caller that could not even be looked at, and has `lines` say so.
    pub fn refuse(&self, caller: &Caller, error: &AttestError, lines: &Refusals) {
        lines.not_attested(&caller.origin, error);
        self.publish(SessionState::Ended(EndReason::of(error)));
    }

    /// Returns once nobody holds the session any more. One task can wait so: the one that writes it.
    pub async fn abandoned(&self) {
        poll_fn(|cx| {
            self.0.abandoned.register(cx.waker());
            if self.0.is_abandoned.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
