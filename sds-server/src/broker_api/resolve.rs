//! A referenced process → a session of it: held by its pidfd, attested as if it had connected, and looked at again
//! before anything is told of it.

use std::sync::Arc;

use spiffe_bridge::attest::{AttestError, Attestor, Changed, Process};
use spiffe_bridge::node::{Caller, CallerTask, Node, Origin, Pids, Rounds, Session};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument as _;

use super::manner::Reason;
use super::reference::Reference;
use crate::endpoint::limits::{Holder, Limits};
use crate::workload_api::metrics::RefusedFor;

/// Where workloads are found. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workloads {
    /// Looks at them.
    pub attestor: Arc<Attestor>,
    /// Knows what they may have.
    pub node: Node,
    /// How many files the pidfds of a broker's workloads may be: counted as its connections are.
    pub limits: Limits,
    /// When they are looked at again.
    pub rounds: Rounds,
    /// The server's.
    pub drain: CancellationToken,
}

impl Workloads {
    /// The session of the workload that `broker` refers to. It lives as long as it is held, and ends with the process.
    pub(super) fn resolve(
        &self,
        reference: Reference,
        broker: &Session,
    ) -> Result<Session, (RefusedFor, Status)> {
        let Reference::Pid(pid) = reference;
        let Origin::Broker { uid: of_broker, pids, .. } = broker.caller().origin else {
            let status = Status::internal("the connection is no broker's: this is a fault of the server");
            return Err((RefusedFor::Session, status));
        };
        if pids == Pids::Others {
            // BA-03: the number means another process there.
            let text = "the broker is in another PID namespace than the server, and its process ids mean nothing \
                        here: run it in the server's";
            return Err((RefusedFor::Message, Reason::Invalid.status(text)));
        }
        let permit = self.limits.permit(Holder::User(of_broker), 1).map_err(|_| {
            let text = "too many workloads are referred to (limits.connections_per_uid)";
            (RefusedFor::Streams, Status::resource_exhausted(text))
        })?;
        // From here on it is this process and no other that has the pid later. BA-03, BA-06
        let process = Process::by_pid(pid).map_err(|error| {
            if let AttestError::Unknown { .. } = error {
                self.node.refusals().not_attested(format_args!("referenced pid {pid}"), &error);
            }
            of_error(pid, &error)
        })?;
        let caller = Caller::local(broker.caller().connection, process.pid, process.uid, process.gid);
        let (sessions, session) = Session::channel(caller);
        let task = CallerTask::new(process, self.attestor.clone(), self.node.clone(), sessions)
            .referenced(self.rounds.clone());
        let (drain, span) = (self.drain.clone(), tracing::info_span!("workload", pid));
        // It ends with the last holder of the session.
        tokio::spawn(
            async move {
                drain.run_until_cancelled(task.run()).await;
                drop(permit);
            }
            .instrument(span),
        );
        Ok(session)
    }
}

fn of_error(pid: u32, error: &AttestError) -> (RefusedFor, Status) {
    match error {
        AttestError::Changed(Changed::Exited) | AttestError::NotVisible => {
            let text = format!("there is no process {pid} in the server's PID namespace");
            (RefusedFor::NoIdentity, Reason::NotFound.status(text))
        }
        AttestError::Changed(_) => {
            let text = "the referenced process changes just now: come again";
            (RefusedFor::Unavailable, Status::unavailable(text))
        }
        // Not no, but unknown: /proc does not show it. WE-17
        AttestError::Unknown { .. } => {
            let text = format!("the server cannot look at process {pid}: see its log");
            (RefusedFor::Unavailable, Status::unavailable(text))
        }
        error => (RefusedFor::NoIdentity, Reason::NotEntitled.status(error.to_string())),
    }
}
