//! Who is calling: evidence about a process, taken from the kernel, or about a remote peer, proved in a TLS
//! handshake, to selectors.
//!
//! - Evidence is of one living process, held by its pidfd: what was read is thrown away if the
//!   process is gone, runs another program, or has other credentials when the reading is done.
//! - Ids that the kernel cannot map (65534), and pid 0, are never evidence.
//! - What cannot be read is unknown, which is an error, and never a missing selector that another
//!   entry could build on: entries only ever ask for selectors, not for their absence.
//! - What a service of the machine says (a container runtime) is bound to the process by the kernel: by where the
//!   process stands, and where the one stands that the service speaks of (`workload`).
//! - Interpreters, and a debugger of the same user, defeat `path` and `sha256`: they are hardening
//!   and not identity. rotation.md, "Who is calling, the fine print".

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::identity::SelectorSet;
use crate::registration::Needs;

mod broker;
pub mod cgroup;
pub mod container;
pub mod dbus;
mod executable;
mod http;
mod key;
mod limitation;
mod names;
mod proc;
mod process;
mod remote;
mod services;
pub mod workload;

pub use broker::BrokerPeer;
pub use key::{NotAKey, ProcessKey};
pub use limitation::Limitation;
pub use process::Process;
pub use remote::{AuthoritiesError, RemoteError, RemotePeer, RemoteTrust};
pub use services::{Config, Evidence, Patience, Service, ServiceStatus};
pub use workload::kubernetes::Config as KubernetesConfig;

use executable::Hashes;
use proc::{Credentials, Image, Namespaces};
use services::Services;

/// So long may a living process that cannot be looked into keep the selectors that it had.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// Attests processes. Share one: it remembers the hashes of executables.
#[derive(Debug)]
pub struct Attestor {
    own: Option<Namespaces>,
    hashes: Hashes,
    services: Services,
}

/// What was seen of a process, and by what it is known that this still holds.
#[derive(Debug)]
pub struct Attestation {
    /// What it has. Empty if it is in another user or mount namespace.
    pub selectors: SelectorSet,
    /// What of the costly evidence was looked for.
    pub needs: Needs,
    /// What was looked for and not given, with the reason.
    pub missing: Vec<Missing>,
    credentials: Credentials,
    image: Image,
    evidence: Evidence,
    began: Instant,
    /// Milliseconds from `began` to the last time that everything could be looked at.
    seen: AtomicU64,
}

/// Why selectors were not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Missing {
    /// No `unix:` selectors: its ids and paths mean something else there.
    #[error(
        "the process is in another user or mount namespace than the server: unix: selectors do not apply"
    )]
    OtherNamespace,
    /// No `unix:path`.
    #[error(
        "the executable has no path (deleted, unreachable or not UTF-8): restart the process after its upgrade"
    )]
    NoPath,
    /// No `unix:sha256`.
    #[error("the executable is too large to be hashed: use unix:path")]
    TooLarge,
    /// No `unix:sha256`.
    #[error("the executable could not be read in time to be hashed: check its file system")]
    TooSlow,
}

/// Why a process was not attested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The kernel shows no pid: the caller is in a PID namespace that we cannot see.
    #[error("the caller's process is not visible: run the server in the host's PID namespace")]
    NotVisible,
    /// The kernel shows the overflow id.
    #[error("the caller's user or group (id {id}) has no meaning in the server's user namespace")]
    Unmapped {
        /// What it shows.
        id: u32,
    },
    /// The process is gone, or is another one than it was.
    #[error("the caller {0}")]
    Changed(Changed),
    /// Something could not be looked at. Unknown, not no: try again.
    #[error(
        "cannot read {what} of process {pid}: the server needs CAP_SYS_PTRACE for processes of other users, and a /proc without hidepid"
    )]
    Unknown {
        /// What.
        what: &'static str,
        /// Of whom.
        pid: u32,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// What happened to a process since it was attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// It is gone.
    #[error("has exited")]
    Exited,
    /// It runs another program, or the same one anew.
    #[error("has executed a program since")]
    Executed,
    /// It has another user, group or supplementary groups.
    #[error("has changed its credentials since")]
    Credentials,
    /// It stands in another cgroup, by which its container or unit was known.
    #[error("was moved to another cgroup since")]
    Moved,
}

impl Attestor {
    /// An attestor, and what it will not be able to see, to be told at start.
    #[must_use]
    pub fn new(config: Config) -> (Self, Vec<Limitation>) {
        let own = proc::namespaces(std::process::id());
        let limitations = limitation::find(own.as_ref().ok());
        let services = Services::new(config);
        (Self { own: own.ok(), hashes: Hashes::default(), services }, limitations)
    }

    /// Looks at a process, with what the kernel tells. Blocks where [`Needs::may_block`]: on the system's databases,
    /// and to hash.
    ///
    /// # Errors
    /// [`AttestError`] if the process is not, or no longer, who connected, or cannot be looked at.
    pub fn attest(&self, process: &Process, needs: Needs) -> Result<Attestation, AttestError> {
        process.alive()?;
        let credentials = process.credentials()?;
        let image = process.image()?;
        let (selectors, missing) = if self.shares_namespaces(process)? {
            workload::unix::selectors(process, &credentials, needs, &self.hashes)?
        } else {
            (SelectorSet::new(), vec![Missing::OtherNamespace])
        };
        // A pid is not used again while its process lives: what was read before this is of this process.
        if process.credentials()? != credentials {
            return Err(AttestError::Changed(Changed::Credentials));
        }
        if process.image()? != image {
            return Err(AttestError::Changed(Changed::Executed));
        }
        process.alive()?;
        let (began, seen) = (Instant::now(), AtomicU64::new(0));
        let evidence = Evidence::default();
        Ok(Attestation { selectors, needs, missing, credentials, image, evidence, began, seen })
    }

    /// Asks the services that `needs` names what they know of a process. `before` is what they said earlier of the
    /// same one: it stays good for a bounded time where one does not answer.
    ///
    /// # Errors
    /// [`AttestError`] if the process is gone, was moved meanwhile, or cannot be looked at. That a service fails is
    /// no error: [`Evidence::by_service`] tells it.
    pub async fn ask(
        &self,
        process: &Process,
        needs: Needs,
        before: Option<&Evidence>,
        patience: Patience,
    ) -> Result<Evidence, AttestError> {
        self.services.ask(process, needs, before, patience).await
    }

    /// How the services stand that were asked so far.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceStatus> {
        self.services.status()
    }

    /// Whether an attestation still holds. Cheap: a few reads from /proc.
    ///
    /// A living process that cannot be looked at just now keeps its selectors for at most a minute.
    ///
    /// # Errors
    /// [`Changed`], and then the attestation is worth nothing.
    pub fn recheck(&self, process: &Process, attestation: &Attestation) -> Result<(), Changed> {
        let settle = |error| match error {
            AttestError::Changed(changed) => Err(changed),
            _ if attestation.is_fresh() => Ok(false),
            _ => Err(Changed::Executed),
        };
        process.alive().or_else(|e| settle(e).map(drop))?;
        let credentials = process
            .credentials()
            .map(|now| now == attestation.credentials)
            .or_else(|e| settle(e).map(|_| true))?;
        let (image, readable) = match process.image() {
            Ok(now) => (now == attestation.image, true),
            Err(error) => settle(error).map(|_| (true, false))?,
        };
        let moved = match &attestation.evidence.cgroups {
            Some(before) => {
                process.cgroups().map(|now| now != *before).or_else(|e| settle(e).map(|_| false))?
            }
            None => false,
        };
        // Last: if it lives now, then what was read was read of it.
        process.alive().or_else(|e| settle(e).map(drop))?;
        if !credentials {
            return Err(Changed::Credentials);
        }
        if !image {
            return Err(Changed::Executed);
        }
        if moved {
            return Err(Changed::Moved);
        }
        if readable {
            attestation.mark_seen();
        }
        Ok(())
    }

    fn shares_namespaces(&self, process: &Process) -> Result<bool, AttestError> {
        let theirs = process.namespaces()?;
        Ok(self.own.as_ref().is_some_and(|own| own.user == theirs.user && own.mount == theirs.mount))
    }
}

impl Attestation {
    /// The same with what the services said of the same process.
    #[must_use]
    pub fn with(mut self, evidence: Evidence) -> Self {
        self.selectors.extend(evidence.selectors().cloned());
        self.evidence = evidence;
        self
    }

    /// What the services said.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    fn mark_seen(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen.store(millis, Ordering::Relaxed);
    }

    fn is_fresh(&self) -> bool {
        let seen = Duration::from_millis(self.seen.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(seen) < UNKNOWN_FOR
    }
}
