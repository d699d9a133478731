//! One connection's caller: attested once, and looked at again before anything is published to it. Or a process that a
//! broker refers to, looked at again in between as well.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::end::EndReason;
use super::engine::Node;
use super::rounds::Rounds;
use super::session::{SessionState, Sessions};
use super::view::Shown;
use super::wants::Tokens;
use crate::attest::{AttestError, Attestation, Attestor, Patience, Process};
use crate::registration::Needs;
use crate::roster::HolderKey;

/// The task of one connection: it ends with the process or the connection.
pub struct CallerTask {
    process: Arc<Process>,
    attestor: Arc<Attestor>,
    node: Node,
    sessions: Sessions,
    rounds: Option<Rounds>,
}

/// A pidfd for the reactor: it becomes readable when the process exits.
struct Exit(Arc<Process>);

impl AsRawFd for Exit {
    fn as_raw_fd(&self) -> RawFd {
        self.0.pidfd().as_raw_fd()
    }
}

impl AsFd for Exit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.pidfd()
    }
}

impl CallerTask {
    /// A task that attests `process` and publishes to `sessions` what `node` has for it.
    #[must_use]
    pub fn new(process: Process, attestor: Arc<Attestor>, node: Node, sessions: Sessions) -> Self {
        sessions.held_by(HolderKey::Process(process.key()));
        Self { process: Arc::new(process), attestor, node, sessions, rounds: None }
    }

    /// The same for a process that somebody else asks about, who uses what is told for as long as nothing else is: it
    /// is looked at again in `rounds`, and ends soon after it runs another program or has another user.
    #[must_use]
    pub fn referenced(self, rounds: Rounds) -> Self {
        Self { rounds: Some(rounds), ..self }
    }

    /// Runs until the process exits or changes, or the connection is gone. Dropped, it ends the session as a server does
    /// that shuts down.
    pub async fn run(self) {
        // SAFETY: `Exit` always names the same descriptor, and owns it through its `Arc`.
        let exit = unsafe { AsyncFd::register_with_interest(Exit(self.process.clone()), Interest::READABLE) };
        let exited = async {
            match &exit {
                Ok(exit) => drop(exit.readable().await),
                // Without a place in the reactor the exit is still seen: before each publication.
                Err(_) => std::future::pending().await,
            }
        };
        let reason = tokio::select! {
            reason = self.serve() => reason,
            () = exited => EndReason::ProcessExited,
            reason = self.changed() => reason,
            () = self.sessions.abandoned() => return,
        };
        tracing::debug!(pid = self.process.pid, %reason, "session ended");
        self.sessions.publish(SessionState::Ended(reason));
    }

    /// What it changed in between, where that is looked for.
    async fn changed(&self) -> EndReason {
        match &self.rounds {
            // Boxed: no connection's own process has it.
            Some(rounds) => Box::pin(rounds.until_failed(|| self.sessions.verify())).await,
            None => std::future::pending().await,
        }
    }

    async fn serve(&self) -> EndReason {
        let mut needs = Needs::default();
        let mut tokens = Tokens::default();
        let mut before = None::<Arc<Attestation>>;
        loop {
            // Boxed: it is made once or twice, and what comes after lasts.
            let (attestation, mut view) = match Box::pin(self.attest(needs, before.as_deref())).await {
                Ok(attested) => attested,
                Err(reason) => return reason,
            };
            // Looked at once more, it must still be what it was: a program that it runs since is another caller.
            if let Some(Err(changed)) = before.map(|before| self.attestor.recheck(&self.process, &before)) {
                return changed.into();
            }
            let attestation = Arc::new(attestation);
            let (attestor, process, seen) =
                (self.attestor.clone(), self.process.clone(), attestation.clone());
            self.sessions.attested(move || attestor.recheck(&process, &seen).map_err(EndReason::from));
            loop {
                let shown = view.borrow_and_update().clone();
                if !attestation.needs.covers(shown.needs) {
                    // An entry came that asks for more than is known of this process.
                    needs = shown.needs;
                    before = Some(attestation);
                    break;
                }
                if let Err(changed) = self.attestor.recheck(&self.process, &attestation) {
                    return changed.into();
                }
                if let Some(update) = shown.update {
                    let update = tokens.add_to(update, &self.sessions, &self.node).await;
                    self.sessions.publish(SessionState::Serving(update));
                }
                tokio::select! {
                    () = self.sessions.wants().changed() => {}
                    () = tokens.changed() => {}
                    changed = view.changed() => if changed.is_err() { return EndReason::Draining },
                    () = again(&attestation) => {
                        // A service that did not answer is asked once more.
                        needs = attestation.needs;
                        before = Some(attestation);
                        break;
                    }
                }
            }
        }
    }

    async fn attest(
        &self,
        mut needs: Needs,
        before: Option<&Attestation>,
    ) -> Result<(Attestation, watch::Receiver<Shown>), EndReason> {
        loop {
            // What the services were asked before they are asked again; what is asked for the first time holds it up.
            let patience = match before.is_some_and(|before| before.needs.covers(needs)) {
                true => Patience::Background,
                false => Patience::HeldUp,
            };
            let evidence = before.map(Attestation::evidence);
            let (attested, asked) =
                tokio::join!(self.look(needs), self.attestor.ask(&self.process, needs, evidence, patience));
            let refuse = |error: AttestError| self.refuse(&error);
            let mut attestation = attested?.map_err(refuse)?.with(asked.map_err(refuse)?);
            // The view has them: ten thousand callers with the same keep one set of them.
            let selectors = Arc::new(std::mem::take(&mut attestation.selectors));
            let view = self.node.view(selectors).await.map_err(|_| EndReason::Draining)?;
            let asked = view.borrow().needs;
            if attestation.needs.covers(asked) {
                return Ok((attestation, view));
            }
            needs = asked.or(needs);
        }
    }

    /// What the kernel tells.
    async fn look(&self, needs: Needs) -> Result<Result<Attestation, AttestError>, EndReason> {
        if !needs.may_block() {
            // A few reads of /proc: to hand them to another thread takes longer than to make them.
            return Ok(self.attestor.attest(&self.process, needs));
        }
        let (attestor, process) = (self.attestor.clone(), self.process.clone());
        let attested = tokio::task::spawn_blocking(move || attestor.attest(&process, needs)).await;
        attested.map_err(|_| EndReason::NotAttested)
    }

    fn refuse(&self, error: &AttestError) -> EndReason {
        let (pid, uid) = (self.process.pid, self.process.uid);
        self.node.refusals().not_attested(format_args!("pid {pid} uid {uid}"), error);
        EndReason::of(error)
    }
}

/// Returns when the services should be asked again of this process; never if they have said all.
async fn again(attestation: &Attestation) {
    match attestation.evidence().again() {
        Some(after) => Box::pin(tokio::time::sleep(after)).await, // boxed: few wait
        None => std::future::pending().await,
    }
}
