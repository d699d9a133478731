//! `k8s:` selectors: the pod and container that a process is in, in SPIRE's spelling.
//!
//! The cgroup names pod and container, and only root (kubelet and its runtime) can have made a cgroup there. What
//! there is to know of the pod comes from kubelet (`/pods`) or the API server, over HTTPS with the service account's token.
//!
//! Forgeable by: root on this node, whoever may create pods in the namespace that is named (they choose labels and
//! service account, within what the cluster's admission allows), whoever may exec into the pod, and the API server. Not by another pod, nor by a
//! delegated cgroup. Labels may change while the pod runs, and are looked at again each minute (`refresh`).

mod pods;
mod source;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use self::pods::Pods;
pub use self::source::Config;
use self::source::Source;
use super::Unseen;
use crate::attest::cgroup::{self, Cgroups, Maker};
use crate::attest::container;
use crate::identity::SelectorSet;

/// A list is not asked for again this soon, nor sooner than pods are looked at again.
const FRESH: Duration = Duration::from_secs(5);
/// Nor this soon for a container that is not on it, nor after a failure: whoever runs one could have kubelet asked
/// without end. Half of the time between two looks of kubelet at its containers.
const APART: Duration = Duration::from_millis(500);

/// Attests by the list of this node's pods.
#[derive(Debug)]
pub(in crate::attest) struct Kubernetes {
    source: Option<Source>,
    fresh: Duration,
    /// The newest list. Locked while it is asked for: all others wait for that one answer.
    newest: Mutex<Newest>,
}

#[derive(Debug, Default)]
struct Newest {
    list: Option<(Instant, Arc<Pods>)>,
    /// The last question, if it came to nothing.
    failed: Option<(Instant, Unseen)>,
}

impl Kubernetes {
    pub(in crate::attest) fn new(config: Option<Config>) -> Self {
        let fresh = config.as_ref().map_or(FRESH, |config| config.refresh.min(FRESH));
        Self { source: config.map(Source::new), fresh, newest: Mutex::default() }
    }

    /// What a process that stands in `cgroups` has; nothing if it is in no pod.
    pub(in crate::attest) async fn selectors(&self, cgroups: &Cgroups) -> Result<SelectorSet, Unseen> {
        let named = container::named(cgroups).map_err(|e| Unseen::Refused(e.to_string()))?;
        let Some((named, pod)) = named.and_then(|named| named.pod.clone().map(|pod| (named, pod))) else {
            return Ok(SelectorSet::new());
        };
        let makers: Vec<Maker> = named.places.iter().map(cgroup::maker).collect();
        if makers.contains(&Maker::Delegate) {
            return Err(Unseen::Refused(
                "somebody else than root can have made the cgroup of its pod".to_owned(),
            ));
        }
        if !makers.contains(&Maker::Trusted) {
            let advice = "its cgroup cannot be seen: mount /sys/fs/cgroup into the server's container";
            return Err(Unseen::Refused(advice.to_owned()));
        }
        let began = Instant::now();
        let known = self.list(began.checked_sub(self.fresh)).await?.selectors(&pod, &named.id);
        let found = match known {
            Some(found) => Some(found),
            // It may be newer than the list.
            None => self.list(Some(began)).await?.selectors(&pod, &named.id),
        };
        found.ok_or_else(|| {
            Unseen::NotYet(format!("pod {pod} with this container is not on this node's list"))
        })
    }

    /// A list that was asked for no earlier than `since`, or a moment ago.
    async fn list(&self, since: Option<Instant>) -> Result<Arc<Pods>, Unseen> {
        let Some(source) = &self.source else {
            return Err(Unseen::Refused(
                "no source of pods is named: set attestors.kubernetes.url".to_owned(),
            ));
        };
        let mut newest = self.newest.lock().await;
        if let Some((asked, pods)) = &newest.list
            && (since.is_some_and(|since| *asked >= since) || asked.elapsed() < APART)
        {
            return Ok(pods.clone());
        }
        if let Some((_, unseen)) = newest.failed.as_ref().filter(|(asked, _)| asked.elapsed() < APART) {
            return Err(unseen.clone());
        }
        let asked = Instant::now();
        match source.ask().await {
            Ok(pods) => {
                let pods = Arc::new(pods);
                *newest = Newest { list: Some((asked, pods.clone())), failed: None };
                Ok(pods)
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let unseen = Unseen::Failed(format!("{error}{}", cause.unwrap_or_default()));
                newest.failed = Some((asked, unseen.clone()));
                Err(unseen)
            }
        }
    }
}
