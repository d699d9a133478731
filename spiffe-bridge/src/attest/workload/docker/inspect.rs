//! `GET /containers/ID/json`, of Docker and of Podman alike.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::UnixStream;

use super::Unseen;
use crate::attest::http::Get;
use crate::attest::process::Process;
use crate::identity::{Selector, SelectorSet};

/// The longest answer: labels and environment have a few KiB, mounts and health logs may have more.
const MOST_BYTES: usize = 4 << 20;
/// Labels, and variables, of one container that become selectors.
const MOST_EACH: usize = 1024;
/// Between a process's start as the kernel tells it, in ticks, and as the runtime does.
const SLACK: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    /// The image's id, in Docker the hash of its configuration.
    #[serde(default)]
    image: String,
    state: State,
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    running: bool,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    started_at: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    /// As it was named when the container was made.
    #[serde(default)]
    image: String,
    // `null` where there are none.
    labels: Option<BTreeMap<String, String>>,
    env: Option<Vec<String>>,
}

/// What the runtime at `socket` says of container `id`; `None` if it has none of this id.
pub(super) async fn ask(socket: &Path, id: &str) -> Result<Option<Inspected>, Unseen> {
    let failed =
        |what: &str, why: &dyn Display| Unseen::Failed(format!("{} {what}: {why}", socket.display()));
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) => return Err(failed("cannot be reached", &error)),
    };
    // Whoever answers decides who is who: that is root's to say, or ours where we are that user.
    let peer = stream.peer_cred().map_err(|e| failed("does not say who listens", &e))?;
    if ![0, rustix::process::geteuid().as_raw()].contains(&peer.uid()) {
        return Err(failed(
            "is not root's",
            &format!("user {} listens on it, and is not believed", peer.uid()),
        ));
    }
    let path = format!("/containers/{id}/json");
    let get = Get { host: "localhost", path: &path, bearer: None, limit: MOST_BYTES };
    let (status, body) = get.over(stream).await.map_err(|e| failed("does not answer", &e))?;
    match status {
        StatusCode::NOT_FOUND => return Ok(None),
        StatusCode::OK => {}
        other => return Err(failed("answers", &other)),
    }
    let inspected: Inspected =
        serde_json::from_slice(&body).map_err(|e| failed("answers what is not a container", &e))?;
    // It also finds containers by name, and a name may look like an id.
    Ok((inspected.id == id).then_some(inspected))
}

impl Inspected {
    pub(super) fn runs(&self) -> bool {
        self.state.running && self.state.pid != 0
    }

    pub(super) fn pid(&self) -> u32 {
        self.state.pid
    }

    pub(super) fn is_same_run(&self, other: &Self) -> bool {
        self.runs() && (self.state.pid, &self.state.started_at) == (other.state.pid, &other.state.started_at)
    }

    /// Whether `first` can be the process that the runtime started: one that has its pid since began later.
    pub(super) fn began_no_later_than(&self, first: &Process) -> bool {
        let started = OffsetDateTime::parse(&self.state.started_at, &Rfc3339).ok();
        started
            .zip(first.began())
            .is_some_and(|(started, began)| OffsetDateTime::from(began) <= started + SLACK)
    }

    pub(super) fn selectors(&self) -> SelectorSet {
        let mut selectors = SelectorSet::new();
        // What an entry cannot name is left out: it could match none.
        let mut add = |key: &str, value: &dyn Display| {
            selectors.extend(format!("docker:{key}:{value}").parse::<Selector>().ok());
        };
        add("container_id", &self.id);
        for (name, value) in self.config.labels.iter().flatten().take(MOST_EACH) {
            add("label", &format_args!("{name}:{value}"));
        }
        self.config.env.iter().flatten().take(MOST_EACH).for_each(|variable| add("env", variable));
        add("image_id", &self.config.image);
        if self.image.starts_with("sha256:") {
            add("image_id", &self.image);
            add("image_config_digest", &self.image);
        }
        selectors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(text: &str) -> Inspected {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn labels_variables_and_the_image_become_selectors() {
        let container = inspected(
            r#"{"Id": "x", "Image": "sha256:00", "State": {"Running": true, "Pid": 7, "StartedAt": "2026-11-24T13:16:36.2Z"},
                "Config": {"Image": "web:1", "Labels": {"app": "web", "com.x": "a:b", "bad": "a\nb"}, "Env": ["A=b=c", "X="]}}"#,
        );
        let found: Vec<String> = container.selectors().iter().map(ToString::to_string).collect();
        let expected = [
            "docker:container_id:x",
            "docker:env:A=b=c",
            "docker:env:X=",
            "docker:image_config_digest:sha256:00",
            "docker:image_id:sha256:00",
            "docker:image_id:web:1",
            "docker:label:app:web",
            "docker:label:com.x:a:b",
        ];
        assert_eq!(found, expected);
        assert!(container.runs());
    }

    #[test]
    fn a_container_with_nothing_has_its_id() {
        let container = inspected(r#"{"Id": "x", "State": {}, "Config": {"Labels": null, "Env": null}}"#);
        let found: Vec<String> = container.selectors().iter().map(ToString::to_string).collect();
        assert_eq!((found, container.runs()), (vec!["docker:container_id:x".to_owned()], false));
        assert!(!container.is_same_run(&container));
    }

    #[test]
    fn a_process_that_began_after_the_container_is_not_its_first() {
        let own = Process::by_pid(std::process::id()).unwrap();
        let at = |when: OffsetDateTime| {
            let started = when.format(&Rfc3339).unwrap();
            inspected(&format!(r#"{{"Id": "x", "State": {{"StartedAt": "{started}"}}, "Config": {{}}}}"#))
        };
        let began = OffsetDateTime::from(own.began().unwrap());
        assert!(at(began).began_no_later_than(&own));
        assert!(!at(began - SLACK * 2).began_no_later_than(&own));
        assert!(!inspected(r#"{"Id": "x", "State": {}, "Config": {}}"#).began_no_later_than(&own));
    }
}
