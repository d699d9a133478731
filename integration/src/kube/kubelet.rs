//! How kubelet is told to run: alone, or as a node of the API server's cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::driver::Driver;
use super::node::{ADDRESS, API, NAME};
use crate::tools::kubernetes::Part;

/// Whose certificate kubelet shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    /// One of the cluster's CA.
    Signed,
    /// One that it makes and signs itself: so does a kubelet that nobody gave one.
    SelfSigned,
}

/// Who tells kubelet what to run, and whom to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Master {
    /// Nobody but a directory of manifests: it cannot tell tokens apart, and answers all.
    Directory,
    /// An API server too, which it finds by this kubeconfig and asks of each token whose it is and what that one may.
    Cluster(PathBuf),
}

/// The command that starts kubelet with all its files in `dir`; `serving` has the paths of its certificate and key.
///
/// # Errors
/// It is not built, or its configuration cannot be written.
pub(super) fn command(
    dir: &Path,
    serving: Option<&[PathBuf; 2]>,
    master: &Master,
    driver: Driver,
) -> Result<Command> {
    let at = |leaf: &str| dir.join(leaf).display().to_string();
    let mut fields = object(config(at, driver))?;
    if let Some([cert, key]) = serving {
        fields.extend(object(json!({ "tlsCertFile": cert, "tlsPrivateKeyFile": key }))?);
    }
    fields.extend(object(match master {
        Master::Directory => json!({
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
        }),
        Master::Cluster(_) => json!({
            "authentication": { "anonymous": { "enabled": false }, "webhook": { "enabled": true },
                                "x509": { "clientCAFile": at("ca.crt") } },
            "authorization": { "mode": "Webhook" },
        }),
    })?);
    fs::write(dir.join("kubelet.json"), Value::Object(fields).to_string())?;
    let mut command = Command::new(Part::Kubelet.built()?);
    command.args(["--config", &at("kubelet.json"), "--root-dir", &at("kubelet"), "--cert-dir", &at("pki")]);
    command.args(["--hostname-override", NAME]);
    if let Master::Cluster(kubeconfig) = master {
        command.arg("--kubeconfig").arg(kubeconfig).args(["--node-ip", ADDRESS]);
    }
    Ok(command)
}

/// Where the API server is, and who kubelet is there by a certificate and its key.
pub(super) fn kubeconfig(ca: &Path, [cert, key]: &[PathBuf; 2]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "own",
        "clusters": [{ "name": "own", "cluster": { "server": format!("https://{API}"),
                                                   "certificate-authority": ca } }],
        "users": [{ "name": "own", "user": { "client-certificate": cert, "client-key": key } }],
        "contexts": [{ "name": "own", "context": { "cluster": "own", "user": "own" } }],
    })
}

fn config(at: impl Fn(&str) -> String, driver: Driver) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": "127.0.0.1", "healthzPort": 0, "readOnlyPort": 0,
        "cgroupDriver": driver.name(), "failCgroupV1": false, "failSwapOn": false,
        "containerRuntimeEndpoint": format!("unix://{}", at("containerd.sock")),
        "staticPodPath": at("manifests"), "fileCheckFrequency": "1s",
        "podLogsDir": at("logs"), "volumePluginDir": at("plugins"),
        // The disk is the machine's, and full or not: nothing is thrown out for it.
        "evictionHard": { "memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%",
                          "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%" },
        "imageGCHighThresholdPercent": 100, "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
    })
}

fn object(value: Value) -> Result<Map<String, Value>> {
    let Value::Object(fields) = value else { bail!("not an object: {value}") };
    Ok(fields)
}
