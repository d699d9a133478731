//! Manifests of pods, and what kubelet's list says of them.

use std::path::Path;

use serde_json::{Value, json};

use super::node::NAME;

/// The one image, also of the containers that hold a pod open.
pub(super) const IMAGE: &str = "countersign.invalid/pod:1";
/// The user of all containers.
pub(super) const USER: u32 = 1001;

/// What a pod is owed by the node, which decides where its cgroup lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quality {
    BestEffort,
    Burstable,
    Guaranteed,
}

/// A pod `name` in the namespace `shop`, of the host's network (there is no other), with the label `app`: its
/// containers `main` and `side`, and before them `proxy`, which stays. All ask at the socket `api`.
pub(super) fn manifest(name: &str, app: &str, quality: Quality, api: &Path) -> Value {
    let amounts = json!({ "cpu": "10m", "memory": "64Mi" });
    let resources = match quality {
        Quality::BestEffort => json!({}),
        Quality::Burstable => json!({ "requests": amounts }),
        Quality::Guaranteed => json!({ "requests": amounts, "limits": amounts }),
    };
    let container = |name: &str| {
        json!({
            "name": name, "image": IMAGE, "imagePullPolicy": "Never", "args": ["watch", "/api.sock"],
            "securityContext": { "runAsUser": USER }, "resources": resources,
            "volumeMounts": [{ "name": "api", "mountPath": "/api.sock" }],
        })
    };
    let mut proxy = container("proxy");
    if let Some(fields) = proxy.as_object_mut() {
        fields.insert("restartPolicy".into(), json!("Always"));
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": app } },
        "spec": {
            "hostNetwork": true, "terminationGracePeriodSeconds": 1,
            "initContainers": [proxy], "containers": [container("main"), container("side")],
            "volumes": [{ "name": "api", "hostPath": { "path": api, "type": "Socket" } }],
        },
    })
}

/// The same, made by the API server as a pod of the service account `account`, for kubelet to run.
pub(super) fn bound(mut manifest: Value, account: &str) -> Value {
    if let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("serviceAccountName".into(), json!(account));
        spec.insert("nodeName".into(), json!(NAME));
    }
    manifest
}

/// What a process of `container`, called `own`, of the pod `name` with the label `app` has at least.
pub(super) fn selectors(name: &str, app: &str, own: &str, container: &Running) -> Vec<String> {
    vec![
        "k8s:ns:shop".to_owned(),
        format!("k8s:pod-name:{name}"),
        format!("k8s:pod-uid:{}", container.pod),
        format!("k8s:node-name:{NAME}"),
        format!("k8s:pod-label:app:{app}"),
        format!("k8s:container-name:{own}"),
        format!("k8s:container-image:{IMAGE}"),
    ]
}

/// A container that runs, as the list of pods has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    /// The pod's uid, by which its cgroup is called.
    pub(super) pod: String,
    /// 64 hexadecimal digits.
    pub(super) id: String,
}

/// `container` of the pod `name` in `list`, if it runs.
pub(super) fn running(list: &Value, name: &str, container: &str) -> Option<Running> {
    let pods = list.get("items")?.as_array()?;
    let pod = pods.iter().find(|pod| pod.pointer("/metadata/name").is_some_and(|found| found == name))?;
    let statuses = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let statuses = statuses.iter().filter_map(|at| pod.pointer(at)?.as_array()).flatten();
    let mut ours = statuses.filter(|status| status.get("name").is_some_and(|found| found == container));
    let status = ours.find(|status| status.pointer("/state/running").is_some())?;
    let id = status.get("containerID")?.as_str()?.strip_prefix("containerd://")?;
    let pod = pod.pointer("/metadata/uid")?.as_str()?;
    Some(Running { pod: pod.to_owned(), id: id.to_owned() })
}
