//! `docker:` selectors: what Docker or Podman say of the container that a process is in, in SPIRE's spelling.
//!
//! The cgroup gives the container's id, and the runtime's socket what there is to know of it. That a process is in the
//! cgroup of that name proves nothing where somebody was given a part of the hierarchy. So the runtime is asked for
//! the container's first process, and the caller must stand where that one stands and share a namespace with it.
//!
//! Forgeable by: root on this node, whoever may start containers (they choose labels, environment and image names),
//! and whoever may enter the container. Not by a process inside of it, nor by a delegated cgroup.

mod inspect;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use self::inspect::Inspected;
use super::Unseen;
use crate::attest::cgroup::{self, Cgroups, Maker, Place};
use crate::attest::container::{self, Named};
use crate::attest::proc::{self, File};
use crate::attest::process::Process;
use crate::identity::SelectorSet;

/// An answer is not asked for again this soon: all of it but the first process is fixed when a container is made.
const FRESH: Duration = Duration::from_secs(30);
/// Containers that are remembered. More hardly run on one machine; the oldest answer goes first.
const REMEMBERED: usize = 4096;
/// Questions under way at once: the runtime has other work, and the rest wait in line for their deadline.
const ASKING: usize = 8;

/// Where the runtimes are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::attest) struct Config {
    /// Their API sockets. The first that knows the container speaks.
    pub(in crate::attest) sockets: Vec<PathBuf>,
    /// So long is an answer good for the same living container when the runtime does not answer.
    pub(in crate::attest) keep: Duration,
}

/// Attests by the runtimes of containers.
#[derive(Debug)]
pub(in crate::attest) struct Docker {
    config: Config,
    own: Option<Namespaces>,
    known: Mutex<HashMap<String, Arc<Known>>>,
    asking: Semaphore,
}

/// What a container has of its own, if only one of them.
#[derive(Debug)]
struct Namespaces {
    mount: File,
    pid: File,
}

/// A container that lives, by its first process.
#[derive(Debug)]
struct Known {
    /// Held by its pidfd: while it lives, this is the same run of the same container.
    first: Process,
    namespaces: Namespaces,
    places: Vec<Place>,
    selectors: SelectorSet,
    asked: Instant,
}

impl Docker {
    pub(in crate::attest) fn new(config: Config) -> Self {
        let own = Namespaces::of(std::process::id()).ok();
        Self { config, own, known: Mutex::default(), asking: Semaphore::new(ASKING) }
    }

    /// What `process`, which stands in `cgroups`, has; nothing if it is in no container.
    pub(in crate::attest) async fn selectors(
        &self,
        process: &Process,
        cgroups: &Cgroups,
    ) -> Result<SelectorSet, Unseen> {
        let named = container::named(cgroups).map_err(|e| Unseen::Refused(e.to_string()))?;
        let Some(named) = named else { return Ok(SelectorSet::new()) };
        let known = self.container(&named).await?;
        if named.places != known.places {
            return Err(Unseen::Refused(format!(
                "its cgroup is named like container {}, and is not that container's",
                short(&named.id)
            )));
        }
        let namespaces = namespaces(process)?;
        if !self.shares(&namespaces, &known.namespaces) {
            return Err(Unseen::Refused(format!(
                "it is in the cgroup of container {}, and in none of its namespaces",
                short(&named.id)
            )));
        }
        // Last: the container that was compared with was the one that runs.
        known.first.alive().map_err(|e| Unseen::of(&e))?;
        Ok(known.selectors.clone())
    }

    /// What is known of the container, asked for if it is not known or not fresh.
    async fn container(&self, named: &Named) -> Result<Arc<Known>, Unseen> {
        if let Some(known) = self.known(named, FRESH) {
            return Ok(known);
        }
        let _place = self.asking.acquire().await.map_err(|_| Unseen::NotYet("shutting down".to_owned()))?;
        // While this one waited, another may have asked for the same container.
        if let Some(known) = self.known(named, FRESH) {
            return Ok(known);
        }
        match self.ask(named).await {
            Ok(known) => Ok(self.remember(&named.id, known)),
            Err(failed @ Unseen::Failed(_)) => self.known(named, self.config.keep).ok_or(failed),
            Err(other) => Err(other),
        }
    }

    fn known(&self, named: &Named, at_most: Duration) -> Option<Arc<Known>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&named.id).cloned()?;
        (known.asked.elapsed() < at_most && known.first.alive().is_ok()).then_some(known)
    }

    fn remember(&self, id: &str, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.retain(|_, known| known.first.alive().is_ok());
        }
        if all.len() >= REMEMBERED
            && let Some(oldest) = all.iter().min_by_key(|(_, known)| known.asked).map(|(id, _)| id.clone())
        {
            all.remove(&oldest);
        }
        all.insert(id.to_owned(), known.clone());
        known
    }

    /// Asks the runtimes for the container, and finds its first process.
    async fn ask(&self, named: &Named) -> Result<Known, Unseen> {
        let (socket, inspected) = self.inspect(&named.id).await?;
        if !inspected.runs() {
            // Its first process may speak before the runtime has written down that it runs.
            return Err(Unseen::NotYet(format!("container {} does not run", short(&named.id))));
        }
        let first = Process::by_pid(inspected.pid()).map_err(|e| Unseen::of(&e))?;
        let stands = cgroup::of(first.pid).map_err(|e| Unseen::of(&first.failed("/proc/PID/cgroup", e)))?;
        let namespaces = namespaces(&first)?;
        let its = container::named(&stands).ok().flatten().filter(|its| its.id == named.id);
        let Some(its) = its else {
            return Err(Unseen::NotYet(format!(
                "the first process of container {} ({}) is not in its cgroup: run the server in the runtime's PID namespace",
                short(&named.id),
                first.pid
            )));
        };
        // The runtime says it once more, of a process that is held by now: its pid was not another's in between.
        let again = inspect::ask(&socket, &named.id).await?;
        if again.as_ref().is_none_or(|again| !again.is_same_run(&inspected)) {
            return Err(Unseen::NotYet(format!("container {} restarts", short(&named.id))));
        }
        // Until the runtime notices that the first process ended, it may name a pid that is somebody else's. That one
        // can stand in a cgroup of this name only where it was given a part of the hierarchy.
        let makers: Vec<Maker> = its.places.iter().map(cgroup::maker).collect();
        let began_with_it = || inspected.began_no_later_than(&first);
        if makers.contains(&Maker::Delegate) || !makers.contains(&Maker::Trusted) && !began_with_it() {
            return Err(Unseen::Refused(format!(
                "somebody else than root can have made the cgroup of container {}",
                short(&named.id)
            )));
        }
        first.alive().map_err(|e| Unseen::of(&e))?;
        let selectors = inspected.selectors();
        Ok(Known { first, namespaces, places: its.places, selectors, asked: Instant::now() })
    }

    async fn inspect(&self, id: &str) -> Result<(PathBuf, Inspected), Unseen> {
        // A runtime that is not installed has no containers.
        let sockets: Vec<_> = self.config.sockets.iter().filter(|socket| socket.exists()).collect();
        let mut failed = sockets.is_empty().then(|| {
            let looked = &self.config.sockets;
            Unseen::Failed(format!("no container runtime at {looked:?}: name its socket in attestors.docker"))
        });
        for socket in sockets {
            match inspect::ask(socket, id).await {
                Ok(Some(inspected)) => return Ok((socket.clone(), inspected)),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // One that did not answer may be the one that knows it.
        Err(failed.unwrap_or_else(|| Unseen::NotYet(format!("no runtime knows container {}", short(id)))))
    }

    /// A process may leave one of its namespaces for one of its own, as sandboxes do; it cannot enter another's.
    fn shares(&self, theirs: &Namespaces, first: &Namespaces) -> bool {
        let own = |of: fn(&Namespaces) -> File| self.own.as_ref().map(of);
        let same = |of: fn(&Namespaces) -> File| {
            of(theirs) == of(first) && own(of).is_some_and(|own| own != of(theirs))
        };
        same(|n| n.mount) || same(|n| n.pid)
    }
}

impl Namespaces {
    fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { mount: proc::namespace(pid, "mnt")?, pid: proc::namespace(pid, "pid")? })
    }
}

fn namespaces(process: &Process) -> Result<Namespaces, Unseen> {
    Namespaces::of(process.pid).map_err(|e| Unseen::of(&process.failed("/proc/PID/ns", e)))
}

/// As people write a container's id.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
