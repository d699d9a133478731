//! The attestors that ask a service of this machine: side by side, each under the deadline.
//!
//! One that fails or is slow takes away its selectors and nothing else. Unknown is not no: what it said before of the
//! same living process, in the same cgroups, stays good for a bounded time; and it is asked again.

mod health;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use self::health::ServiceStatus;

use self::health::Health;
use super::AttestError;
use super::cgroup::Cgroups;
use super::process::Process;
use super::workload::Unseen;
use super::workload::docker::{self, Docker};
use super::workload::kubernetes::{self, Kubernetes};
use super::workload::systemd::Systemd;
use crate::identity::SelectorSet;
use crate::registration::Needs;

/// A service that does not know a process may be late: a container's first process can speak before the runtime has
/// written down that it runs. So long, and so often, is it asked before its caller goes on without. Kubelet looks at its
/// containers once a second, and is asked as long as the deadline lets.
const LATE: Duration = Duration::from_millis(500);
const LATE_EVERY: Duration = Duration::from_millis(50);
/// When a caller goes on without, its service is asked again after the first of these, and at last every so often.
const AGAIN: Duration = Duration::from_millis(250);
const AGAIN_AT_MOST: Duration = Duration::from_secs(30);
/// So long a pod may be missing from the list at least: a kubelet that begins has none on it.
const MISSING: Duration = Duration::from_secs(10);
/// A question that holds up nobody may take longer: a service that always takes its time is heard in the end.
const PATIENT: Duration = Duration::from_secs(15);

/// Which services are asked, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// API sockets of Docker and Podman; empty if no runtime is asked.
    pub docker_sockets: Vec<PathBuf>,
    /// The socket of the system's D-Bus; `None` if systemd is not asked, and the cgroups must do.
    pub system_bus: Option<PathBuf>,
    /// Who has the list of this node's pods; `None` if nobody is asked.
    pub kubernetes: Option<kubernetes::Config>,
    /// So long is a caller held up by services that do not answer.
    pub deadline: Duration,
    /// So long stays good what a service said of a process, when it does not answer.
    pub keep: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            docker_sockets: vec!["/run/docker.sock".into(), "/run/podman/podman.sock".into()],
            system_bus: Some("/run/dbus/system_bus_socket".into()),
            kubernetes: None,
            deadline: Duration::from_secs(2),
            // As long as an X.509-SVID lives by default.
            keep: Duration::from_secs(3600),
        }
    }
}

/// A service that knows things of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Service {
    /// Docker or Podman.
    Docker,
    /// systemd, over D-Bus.
    Systemd,
    /// kubelet, or the API server.
    Kubernetes,
}

impl Service {
    /// As the selectors begin, and as metrics and status call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Systemd => "systemd",
            Self::Kubernetes => "k8s",
        }
    }
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A caller waits for its first answer.
    HeldUp,
    /// Nobody waits: it was answered without.
    Background,
}

/// What the services said of one process.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Where it stood then; `None` if no service was asked.
    pub(super) cgroups: Option<Cgroups>,
    found: BTreeMap<Service, Found>,
    /// After this what Kubernetes said may have changed.
    refresh: Option<Duration>,
}

#[derive(Debug)]
struct Found {
    selectors: SelectorSet,
    seen: Instant,
    unseen: Option<Unseen>,
    /// Since when no answer was that the service knows the process, and one was that it does not.
    missing: Option<Instant>,
    /// Questions in a row that were not answered.
    failures: u32,
}

#[derive(Debug)]
pub(super) struct Services {
    config: Config,
    docker: Docker,
    systemd: Systemd,
    kubernetes: Kubernetes,
    health: Health,
}

impl Services {
    pub(super) fn new(config: Config) -> Self {
        let docker = docker::Config { sockets: config.docker_sockets.clone(), keep: config.keep };
        Self {
            docker: Docker::new(docker),
            systemd: Systemd::new(config.system_bus.clone()),
            kubernetes: Kubernetes::new(config.kubernetes.clone()),
            health: Health::default(),
            config,
        }
    }

    /// What the services that `needs` names know of `process`.
    ///
    /// # Errors
    /// If the process is gone, or was moved while they were asked.
    pub(super) async fn ask(
        &self,
        process: &Process,
        needs: Needs,
        before: Option<&Evidence>,
        patience: Patience,
    ) -> Result<Evidence, AttestError> {
        if !needs.services() {
            return Ok(Evidence::default());
        }
        let cgroups = process.cgroups()?;
        // What was said of it elsewhere says nothing of it here.
        let before = before.filter(|before| before.cgroups.as_ref() == Some(&cgroups));
        let one = async |service, is_needed: bool| {
            let before = before.and_then(|before| before.found.get(&service));
            let found = match is_needed {
                true => Some(self.one(service, process, &cgroups, before, patience).await),
                false => None,
            };
            (service, found)
        };
        let (docker, systemd, kubernetes) = tokio::join!(
            one(Service::Docker, needs.docker),
            one(Service::Systemd, needs.systemd),
            one(Service::Kubernetes, needs.kubernetes),
        );
        let answers = [docker, systemd, kubernetes];
        // A pid is not used again while its process lives: what was found is of this process, where it stands.
        if process.cgroups()? != cgroups {
            return Err(AttestError::Changed(super::Changed::Moved));
        }
        process.alive()?;
        let found = answers.into_iter().filter_map(|(service, found)| Some((service, found?))).collect();
        let refresh = self.config.kubernetes.as_ref().map(|kubernetes| kubernetes.refresh);
        Ok(Evidence { cgroups: Some(cgroups), found, refresh })
    }

    async fn one(
        &self,
        service: Service,
        process: &Process,
        cgroups: &Cgroups,
        before: Option<&Found>,
        patience: Patience,
    ) -> Found {
        let asked = Instant::now();
        let answer = match patience {
            Patience::HeldUp => within(self.config.deadline, self.hear_out(service, process, cgroups)).await,
            Patience::Background => within(PATIENT, self.once(service, process, cgroups)).await,
        };
        self.health.record(service, &answer);
        match answer {
            Ok(selectors) => Found { selectors, seen: asked, unseen: None, missing: None, failures: 0 },
            Err(unseen) => {
                tracing::debug!(pid = process.pid, service = service.as_str(), %unseen, "no selectors");
                // A question without an answer in between says nothing, neither for nor against it.
                let (is_missing, earlier) =
                    (matches!(unseen, Unseen::NotYet(_)), before.and_then(|before| before.missing));
                let missing = earlier.or(is_missing.then_some(asked));
                let kept = before.filter(|before| {
                    !matches!(unseen, Unseen::Refused(_))
                        && before.seen.elapsed() < self.config.keep
                        && !(is_missing && missing.is_some_and(|since| self.is_gone(service, since)))
                });
                // What the kernel says of a unit hangs on no service.
                let sure = match service {
                    Service::Systemd => self.systemd.sure(cgroups, &unseen),
                    Service::Docker | Service::Kubernetes => SelectorSet::new(),
                };
                let failures = before.map_or(0, |before| before.failures).saturating_add(1);
                Found {
                    selectors: kept
                        .map(|kept| kept.selectors.clone())
                        .into_iter()
                        .flatten()
                        .chain(sure)
                        .collect(),
                    seen: kept.map_or(asked, |kept| kept.seen),
                    unseen: Some(unseen),
                    missing,
                    failures,
                }
            }
        }
    }

    /// Whether a process that is missing `since` then is no more what the service said of it. A pod can be deleted and
    /// its processes go on, where kubelet does not: the list of pods is then the one to believe.
    fn is_gone(&self, service: Service, since: Instant) -> bool {
        let pods = self.config.kubernetes.as_ref().filter(|_| service == Service::Kubernetes);
        pods.is_some_and(|pods| since.elapsed() >= pods.refresh.max(MISSING))
    }

    /// Asks until the service knows the process, or has had its time to.
    async fn hear_out(
        &self,
        service: Service,
        process: &Process,
        cgroups: &Cgroups,
    ) -> Result<SelectorSet, Unseen> {
        let late = match service {
            // The reason is that it is not listed, not that nobody answered: a last answer must have its time.
            Service::Kubernetes => self.config.deadline.saturating_sub(3 * LATE_EVERY),
            Service::Docker | Service::Systemd => LATE,
        };
        let started = Instant::now();
        loop {
            match self.once(service, process, cgroups).await {
                Err(Unseen::NotYet(_)) if started.elapsed() < late => tokio::time::sleep(LATE_EVERY).await,
                answer => return answer,
            }
        }
    }

    async fn once(
        &self,
        service: Service,
        process: &Process,
        cgroups: &Cgroups,
    ) -> Result<SelectorSet, Unseen> {
        // Boxed: TLS alone has tens of KiB, which each caller would hold that asks nobody.
        match service {
            Service::Docker => Box::pin(self.docker.selectors(process, cgroups)).await,
            Service::Systemd => Box::pin(self.systemd.selectors(process, cgroups)).await,
            Service::Kubernetes => Box::pin(self.kubernetes.selectors(cgroups)).await,
        }
    }

    pub(super) fn status(&self) -> Vec<ServiceStatus> {
        self.health.status()
    }
}

async fn within(
    deadline: Duration,
    answer: impl Future<Output = Result<SelectorSet, Unseen>>,
) -> Result<SelectorSet, Unseen> {
    let late = |_| Err(Unseen::Late(deadline));
    tokio::time::timeout(deadline, answer).await.unwrap_or_else(late)
}

impl Evidence {
    /// All that the services gave.
    pub(super) fn selectors(&self) -> impl Iterator<Item = &crate::identity::Selector> {
        self.found.values().flat_map(|found| &found.selectors)
    }

    /// Each service that was asked: what it gave, and why nothing, or nothing new, if so.
    pub fn by_service(&self) -> impl Iterator<Item = (Service, &SelectorSet, Option<&Unseen>)> {
        self.found.iter().map(|(service, found)| (*service, &found.selectors, found.unseen.as_ref()))
    }

    /// After how long the services should be asked again, if they should.
    #[must_use]
    pub fn again(&self) -> Option<Duration> {
        let of = |(service, found): (&Service, &Found)| match (&found.unseen, service) {
            (Some(Unseen::Failed(_) | Unseen::Late(_) | Unseen::NotYet(_)), _) => Some(after(found.failures)),
            // What it said may change while the process lives.
            (None, Service::Kubernetes) if !found.selectors.is_empty() => self.refresh,
            _ => None,
        };
        self.found.iter().filter_map(of).min()
    }
}

/// Longer each time, and by a random part, so that the callers of one service do not come back all at once.
fn after(failures: u32) -> Duration {
    let longest = AGAIN.saturating_mul(1 << failures.min(10)).min(AGAIN_AT_MOST);
    let random = RandomState::new().build_hasher().finish() % 1000;
    longest / 2 + longest * u32::try_from(random).unwrap_or_default() / 2000
}
