//! The container that a cgroup path names, in the spellings of the runtimes.
//!
//! Of nested containers the outermost: who can write inside a container's cgroup can make any name below it, and only
//! the runtime of this machine the one that it stands in. A name alone is never evidence: the attestors hold it
//! against where the container's own first process stands.

use super::cgroup::{Cgroups, Place};

/// Prefixes of the runtimes: Docker, Podman, containerd and CRI-O under Kubernetes.
const PREFIXES: [&str; 4] = ["docker-", "libpod-", "cri-containerd-", "crio-"];
/// Podman's cgroup of pods: a bare id right below it is a pod's.
const PODS_OF_PODMAN: &str = "libpod_parent";

/// A container that a process seems to be in, by its cgroups' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    /// The Kubernetes pod that the container's cgroup lies in.
    pub pod: Option<String>,
    /// The container's cgroup in each hierarchy that has one.
    pub places: Vec<Place>,
}

/// The names of a process's cgroups contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its cgroups name different containers in different hierarchies")]
pub struct Ambiguous;

/// The outermost container that `cgroups` name; `None` if they name none.
///
/// # Errors
/// [`Ambiguous`]: then it can be believed of none.
pub fn named(cgroups: &Cgroups) -> Result<Option<Named>, Ambiguous> {
    let mut found: Option<Named> = None;
    for place in cgroups.places() {
        let Some((id, pod, path)) = outermost(&place.path) else { continue };
        let place = Place { hierarchy: place.hierarchy.clone(), path: path.to_owned() };
        match &mut found {
            Some(named) if named.id == id && named.pod == pod => named.places.push(place),
            Some(_) => return Err(Ambiguous),
            None => found = Some(Named { id: id.to_owned(), pod, places: vec![place] }),
        }
    }
    Ok(found)
}

/// The container's id, its pod, and the path down to the container's own cgroup.
fn outermost(path: &str) -> Option<(&str, Option<String>, &str)> {
    let (mut parent, mut pod, mut start) = ("", None, 0);
    for part in path.split('/') {
        let end = start + part.len();
        let is_pod_of_podman = parent == PODS_OF_PODMAN && is_id(part);
        if let Some(id) = id_of(part).filter(|_| !is_pod_of_podman) {
            // `…-pod<uid>.slice:cri-containerd:<id>` is pod and container in one.
            let pod = part.split_once(':').and_then(|(slice, _)| pod_of(slice)).or(pod);
            return Some((id, pod, path.get(..end)?));
        }
        pod = pod_of(part).or(pod);
        (parent, start) = (part, end + 1);
    }
    None
}

/// `<id>`, `docker-<id>.scope`, `libpod-<id>`, `…:cri-containerd:<id>`. Not `libpod-conmon-<id>.scope`: that is the
/// container's keeper, outside of it.
fn id_of(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let bare = match part.rsplit_once(':') {
        Some((before, id)) if [":cri-containerd", ":crio"].iter().any(|end| before.ends_with(end)) => id,
        _ => PREFIXES.iter().find_map(|prefix| part.strip_prefix(prefix)).unwrap_or(part),
    };
    is_id(bare).then_some(bare)
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `pod<uid>` of the cgroupfs driver, `kubepods-burstable-pod<uid with _>.slice` of systemd's. Static pods have a
/// hash in place of a UUID.
fn pod_of(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) if slice.starts_with("kubepods") => slice.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_uuid = || uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && uid.split('-').all(hex);
    (is_uuid() || (uid.len() == 32 && hex(&uid))).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "5bdb4519d1ff429455f91197558f110ed91543d7b1f8590a16157bcae546fbac";
    const B: &str = "00000000d1ff429455f91197558f110ed91543d7b1f8590a16157bcae546fbac";
    const POD: &str = "0f2ad4ef-68b5-4b3f-8a63-0ec9a39e2a1c";

    fn read(text: &str) -> Result<Option<Named>, Ambiguous> {
        named(&Cgroups::parse(text).unwrap())
    }

    /// The id, the pod and the container's own cgroup in `path`, where A, B, P stand for ids and a pod.
    fn check(path: &str, expected: Option<(&str, Option<&str>, &str)>) {
        let spell = |text: &str| {
            let text = text.replace('A', A).replace('B', B);
            text.replace("P_", &POD.replace('-', "_")).replace('P', POD)
        };
        let found = read(&format!("0::{}", spell(path))).unwrap();
        let found = found.map(|n| (n.id, n.pod, n.places[0].path.clone()));
        let expected = expected.map(|(id, pod, at)| (spell(id), pod.map(spell), spell(at)));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn each_runtimes_spelling_is_read() {
        for (path, at) in [
            ("/docker/A", "/docker/A"),
            ("/system.slice/docker-A.scope", "/system.slice/docker-A.scope"),
            ("/system.slice/docker-A.scope/init.scope", "/system.slice/docker-A.scope"),
            ("/machine.slice/libpod-A.scope/container", "/machine.slice/libpod-A.scope"),
            ("/libpod_parent/libpod-A", "/libpod_parent/libpod-A"),
            ("/libpod_parent/B/libpod-A", "/libpod_parent/B/libpod-A"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-A.scope/container",
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-A.scope",
            ),
            ("/../docker-A.scope", "/../docker-A.scope"),
        ] {
            check(path, Some(("A", None, at)));
        }
    }

    #[test]
    fn a_pod_is_read_with_both_drivers_of_kubelet() {
        for (path, at) in [
            ("/kubepods/burstable/podP/A", "/kubepods/burstable/podP/A"),
            ("/kubepods/podP/A/sub", "/kubepods/podP/A"),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podP_.slice/cri-containerd-A.scope",
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podP_.slice/cri-containerd-A.scope",
            ),
            (
                "/kubepods.slice/kubepods-podP_.slice/crio-A.scope/container",
                "/kubepods.slice/kubepods-podP_.slice/crio-A.scope",
            ),
            (
                "/system.slice/containerd.service/kubepods-burstable-podP_.slice:cri-containerd:A",
                "/system.slice/containerd.service/kubepods-burstable-podP_.slice:cri-containerd:A",
            ),
        ] {
            check(path, Some(("A", Some("P"), at)));
        }
    }

    #[test]
    fn of_nested_containers_the_outermost_counts() {
        check("/docker/A/docker/B", Some(("A", None, "/docker/A")));
        check(
            "/system.slice/docker-A.scope/kubepods/podP/B",
            Some(("A", None, "/system.slice/docker-A.scope")),
        );
    }

    #[test]
    fn keepers_pods_and_names_that_only_look_alike_are_no_container() {
        for path in [
            "/",
            "/machine.slice/libpod-conmon-A.scope",
            "/crio-conmon-A.scope",
            "/libpod_parent/A",
            "/libpod_parent/conmon",
            "/machine.slice/machine-libpod_pod_A.slice",
            "/x/A0",
            "/x/podman-A.scope",
            "/kubepods/podP",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn hierarchies_that_contradict_each_other_name_nothing() {
        assert_eq!(read(&format!("2:memory:/docker/{A}\n1:pids:/docker/{B}\n")), Err(Ambiguous));
        let one = read(&format!("2:memory:/docker/{A}\n1:pids:/\n0::/x\n")).unwrap().unwrap();
        assert_eq!((one.id.as_str(), one.places.len()), (A, 1));
    }
}
