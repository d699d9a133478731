//! A list of pods, `v1.PodList`, as kubelet and the API server write it: what of it becomes selectors.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Deserialize;

use crate::identity::{Selector, SelectorSet};

/// Where kubelet notes the hash that it calls a static pod by, in place of its uid. Kubernetes, "Well-Known Annotations".
const STATIC_POD: &str = "kubernetes.io/config.hash";
/// Labels of one pod that become selectors.
const MOST_LABELS: usize = 1024;

/// The pods of this node.
#[derive(Debug, Deserialize)]
pub(super) struct Pods {
    // `null` where there are none.
    items: Option<Vec<Pod>>,
}

#[derive(Debug, Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    service_account_name: String,
    node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    container_statuses: Option<Vec<Container>>,
    init_container_statuses: Option<Vec<Container>>,
    ephemeral_container_statuses: Option<Vec<Container>>,
}

#[derive(Debug, Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "imageID")]
    image_id: String,
    /// `containerd://<id>`; empty before it runs.
    #[serde(default, rename = "containerID")]
    container_id: String,
}

impl Pods {
    /// What processes of `container` in the pod with `uid` have; `None` if the list has no such container there.
    pub(super) fn selectors(&self, uid: &str, container: &str) -> Option<SelectorSet> {
        // The one whose own `uid` is, if it is listed: whoever may create pods may give one of theirs another's for a hash.
        let pods = || self.items.iter().flatten();
        let of_uid = pods().filter(|pod| pod.metadata.uid == uid);
        let is_listed = of_uid.clone().next().is_some();
        let by_hash = pods().filter(|pod| !is_listed && pod.hash().is_some_and(|hash| hash == uid));
        let mut ours = of_uid.chain(by_hash).flat_map(|pod| pod.status.all().map(move |one| (pod, one)));
        let (pod, container) = ours.find(|(_, one)| one.is(container))?;
        let mut selectors = SelectorSet::new();
        // What an entry cannot name is left out: it could match none.
        let mut add = |key: &str, value: &dyn Display| {
            selectors.extend(format!("k8s:{key}:{value}").parse::<Selector>().ok());
        };
        let Metadata { name, namespace, uid, labels, .. } = &pod.metadata;
        add("ns", namespace);
        add("sa", &pod.spec.service_account_name);
        add("node-name", &pod.spec.node_name);
        add("pod-name", name);
        add("pod-uid", uid);
        for (name, value) in labels.iter().flatten().take(MOST_LABELS) {
            add("pod-label", &format_args!("{name}:{value}"));
        }
        add("container-name", &container.name);
        add("container-image", &container.image);
        add("container-image", &container.image_id);
        Some(selectors)
    }
}

impl Pod {
    /// The cgroup of a static pod has its hash, and the list its mirror's uid.
    fn hash(&self) -> Option<&str> {
        Some(self.metadata.annotations.as_ref()?.get(STATIC_POD)?.as_str())
    }
}

impl Status {
    fn all(&self) -> impl Iterator<Item = &Container> {
        [&self.container_statuses, &self.init_container_statuses, &self.ephemeral_container_statuses]
            .into_iter()
            .flatten()
            .flatten()
    }
}

impl Container {
    fn is(&self, id: &str) -> bool {
        self.container_id.split_once("://").is_some_and(|(_, own)| own == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
        {"metadata": {"name": "web-0", "namespace": "shop", "uid": "u1", "labels": {"app": "web", "tier": ""},
                      "annotations": {"kubernetes.io/config.source": "api"}},
         "spec": {"serviceAccountName": "web", "nodeName": "n1", "containers": [{"name": "main"}]},
         "status": {"phase": "Running",
            "containerStatuses": [{"name": "main", "image": "web:1", "imageID": "web@sha256:00", "containerID": "containerd://c1"},
                                  {"name": "waits", "containerID": ""}],
            "initContainerStatuses": [{"name": "init", "image": "i", "imageID": "", "containerID": "cri-o://c2"}]}},
        {"metadata": {"name": "etcd", "namespace": "kube-system", "uid": "u2", "labels": null,
                      "annotations": {"kubernetes.io/config.hash": "h2"}},
         "status": {"containerStatuses": [{"name": "etcd", "containerID": "containerd://c3"}]}}]}"#;

    /// What a kubelet 1.35.4 has listed at `/pods`, of containerd 1.6.20, without an API server: `kube-check` writes it
    /// to the file that `KUBE_CHECK_LIST` names.
    const OF_KUBELET: &str = include_str!("pods/kubelet-1.35.4.json");
    /// What a kube-apiserver 1.35.4 has listed of that kubelet's pods, one of its directory among them: to the file that
    /// `KUBE_CHECK_API_LIST` names.
    const OF_API_SERVER: &str = include_str!("pods/kube-apiserver-1.35.4.json");

    fn of(uid: &str, container: &str) -> Option<Vec<String>> {
        in_list(LIST, uid, container)
    }

    fn in_list(list: &str, uid: &str, container: &str) -> Option<Vec<String>> {
        let pods: Pods = serde_json::from_str(list).unwrap();
        Some(pods.selectors(uid, container)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_container_has_its_pods_selectors_and_its_own() {
        let expected = [
            "k8s:container-image:web:1",
            "k8s:container-image:web@sha256:00",
            "k8s:container-name:main",
            "k8s:node-name:n1",
            "k8s:ns:shop",
            "k8s:pod-label:app:web",
            "k8s:pod-label:tier:",
            "k8s:pod-name:web-0",
            "k8s:pod-uid:u1",
            "k8s:sa:web",
        ];
        assert_eq!(of("u1", "c1").unwrap(), expected);
        assert!(of("u1", "c2").unwrap().contains(&"k8s:container-name:init".to_owned()));
    }

    /// `container` of the pod with `uid` in `list` has `own` and what all have that `kube-check` made.
    fn check_real(list: &str, uid: &str, container: &str, own: &[&str]) {
        let found = in_list(list, uid, container).unwrap();
        let common = ["k8s:container-image:countersign.invalid/pod:1", "k8s:node-name:n1", "k8s:ns:shop"];
        for selector in own.iter().chain(&common) {
            assert!(found.iter().any(|found| found == selector), "{selector} of {found:#?}");
        }
        // The image's id.
        assert_eq!(found.len(), own.len() + common.len() + 1, "{found:#?}");
    }

    #[test]
    fn a_list_that_a_kubelet_wrote_is_read() {
        check_real(
            OF_KUBELET,
            "7118e2f2f4708202a7f4cf1cbf62ff2f",
            "3445fbd6e5e5cd0abd363e23359a10498e34e5806cffb2b22181bd35209c8d52",
            &[
                "k8s:container-name:proxy",
                "k8s:pod-label:app:web",
                "k8s:pod-name:web-n1",
                "k8s:pod-uid:7118e2f2f4708202a7f4cf1cbf62ff2f",
            ],
        );
    }

    #[test]
    fn a_list_that_an_api_server_wrote_is_read() {
        check_real(
            OF_API_SERVER,
            "46985564-0a33-4581-88b7-315a611dcdc3",
            "d8d7f3fa42fcd091c942ca68d7130d437bd0aabfe1d9c86795537b8ec1e49ce1",
            &[
                "k8s:container-name:proxy",
                "k8s:pod-label:app:web",
                "k8s:pod-name:web",
                "k8s:pod-uid:46985564-0a33-4581-88b7-315a611dcdc3",
                "k8s:sa:web",
            ],
        );
    }

    #[test]
    fn a_static_pod_on_an_api_servers_list_is_known_by_its_hash() {
        check_real(
            OF_API_SERVER,
            "5e0a941291aedd832630305a2d60ceac",
            "ec6628c924595024f17ad2757d07454a2880b84ee8d2fe41b4f875f81fb7ca79",
            &[
                "k8s:container-name:main",
                "k8s:pod-label:app:local",
                "k8s:pod-name:local-n1",
                "k8s:pod-uid:c99b3f21-e5e8-41b6-a47b-822c790c5baa",
            ],
        );
    }

    #[test]
    fn a_static_pod_is_known_by_its_hash() {
        assert!(of("h2", "c3").unwrap().contains(&"k8s:pod-name:etcd".to_owned()));
    }

    /// What `wanted` of `u1` has when a pod of theirs, with their container `container`, stands before it.
    fn beside_theirs(container: &str, wanted: &str) -> Option<Vec<String>> {
        let claims = format!(
            r#"{{"items": [{{"metadata": {{"name": "a", "namespace": "theirs", "uid": "u0",
            "annotations": {{"kubernetes.io/config.hash": "u1"}}}},
            "status": {{"containerStatuses": [{{"name": "a", "containerID": "containerd://{container}"}}]}}}},"#
        );
        let start = r#"{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": ["#;
        in_list(&LIST.replacen(start, &claims, 1), "u1", wanted)
    }

    #[test]
    fn a_pod_that_calls_itself_by_anothers_uid_hides_it_not() {
        // Nor if somebody wrote the other's container into its status.
        for container in ["c0", "c1"] {
            let found = beside_theirs(container, "c1").unwrap();
            assert!(found.contains(&"k8s:ns:shop".to_owned()), "{container}");
        }
        // Nor while the other's is not in its pod's status yet.
        assert_eq!(beside_theirs("c4", "c4"), None);
    }

    #[test]
    fn a_container_of_another_pod_or_of_none_has_nothing() {
        for (uid, container) in [("u2", "c1"), ("u1", "c3"), ("u1", ""), ("u3", "c1"), ("", "c1")] {
            assert_eq!(of(uid, container), None, "{uid} {container}");
        }
        let none: Pods = serde_json::from_str(r#"{"items": null}"#).unwrap();
        assert!(none.selectors("u1", "c1").is_none());
    }
}
