//! The selectors that an attestor can give, each in the one spelling that it gives it in.
//!
//! Another is refused: an entry with it could never match.

use super::super::short;
use super::dns_name;
use crate::identity::Selector;

/// What the kernel reports for an id that it cannot map: never evidence. rotation.md, "Who is calling".
const OVERFLOW_ID: u32 = 65534;

const X509: &str = "x509:uri:…, x509:dns:… or x509:sha256:…";

/// Those of a `remote` entry are of a certificate, all others of a process here.
pub(in crate::registration::document) fn selector(text: &str, remote: bool) -> Result<Selector, String> {
    let selector: Selector = text.parse().map_err(|e| format!("{e}"))?;
    let (key, value) = selector.value().split_once(':').unwrap_or_default();
    match (selector.kind(), remote) {
        ("unix", false) => unix(text, key, value)?,
        ("docker", false) => docker(text, key, value)?,
        ("systemd", false) => systemd(text, key, value)?,
        ("k8s", false) => kubernetes(text, key, value)?,
        ("x509", true) => x509(text, key, value)?,
        ("unix" | "docker" | "systemd" | "k8s", true) => {
            return Err(format!(
                "{:?} is of a process on this node, and a remote caller has none: with remote: true write {X509}",
                short(text)
            ));
        }
        ("x509", false) => {
            return Err(format!(
                "{:?} is of the certificate of a remote caller: add remote: true to this entry, or write unix: selectors",
                short(text)
            ));
        }
        (kind, _) => {
            return Err(format!(
                "no attestor gives {:?} selectors: unix:, docker:, systemd: and k8s: are known, and x509: in an entry with remote: true",
                short(kind)
            ));
        }
    }
    Ok(selector)
}

/// What a certificate proves, in the spelling of [`crate::attest::RemotePeer`].
fn x509(text: &str, key: &str, value: &str) -> Result<(), String> {
    match key {
        "uri" if value.contains(':') => Ok(()),
        "uri" => Err(format!("{:?} is not a URI: write x509:uri:spiffe://trust-domain/path", short(text))),
        "dns" => dns_name(value),
        "sha256" if is_sha256(value) => Ok(()),
        "sha256" => Err(not_sha256(text)),
        _ => Err(format!("x509:{} is not known: write {X509}", short(key))),
    }
}

fn is_sha256(value: &str) -> bool {
    value.len() == 64 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn not_sha256(text: &str) -> String {
    format!("{:?} is not a SHA-256 in 64 lower-case hexadecimal digits", short(text))
}

/// What a container runtime tells.
fn docker(text: &str, key: &str, value: &str) -> Result<(), String> {
    let (good, form) = match key {
        "label" => {
            (value.split_once(':').is_some_and(|(name, _)| !name.is_empty()), "docker:label:NAME:VALUE")
        }
        "env" => (value.split_once('=').is_some_and(|(name, _)| !name.is_empty()), "docker:env:NAME=VALUE"),
        "image_id" => (true, ""),
        "container_id" => (is_sha256(value), "docker:container_id: and all 64 lower-case digits of the id"),
        "image_config_digest" => (value.starts_with("sha256:"), "docker:image_config_digest:sha256:…"),
        _ => {
            let known = "container_id, label, env, image_id and image_config_digest";
            return Err(format!("docker:{} is not known: the keys are {known}", short(key)));
        }
    };
    if good { Ok(()) } else { Err(format!("{:?}: write {form}", short(text))) }
}

/// What systemd tells.
fn systemd(text: &str, key: &str, value: &str) -> Result<(), String> {
    match key {
        // A unit's name always has its kind. systemd.unit(5)
        "id" if value.contains('.') => Ok(()),
        "id" => Err(format!("{:?}: write the unit's whole name, systemd:id:web.service", short(text))),
        "fragment_path" if value.starts_with('/') => Ok(()),
        "fragment_path" => {
            Err(format!("{:?}: write systemd:fragment_path:/etc/systemd/system/…", short(text)))
        }
        _ => Err(format!("systemd:{} is not known: the keys are id and fragment_path", short(key))),
    }
}

/// What kubelet or the API server tells.
fn kubernetes(text: &str, key: &str, value: &str) -> Result<(), String> {
    match key {
        "ns" | "sa" | "node-name" | "pod-name" | "pod-uid" | "container-name" | "container-image" => Ok(()),
        "pod-label" if value.split_once(':').is_some_and(|(name, _)| !name.is_empty()) => Ok(()),
        "pod-label" => Err(format!("{:?}: write k8s:pod-label:NAME:VALUE", short(text))),
        _ => {
            let known = "ns, sa, node-name, pod-name, pod-uid, pod-label, container-name and container-image";
            Err(format!("k8s:{} is not known: the keys are {known}", short(key)))
        }
    }
}

/// What the kernel tells of a process.
fn unix(text: &str, key: &str, value: &str) -> Result<(), String> {
    let good = match key {
        "uid" | "gid" | "supplementary_gid" => return number(text, value),
        "user" | "group" | "supplementary_group" => return Ok(()),
        "path" => value.starts_with('/') && !value.ends_with(" (deleted)"),
        "sha256" => is_sha256(value),
        _ => {
            let known = "uid, gid, supplementary_gid, user, group, supplementary_group, path and sha256";
            return Err(format!("unix:{} is not known: the keys are {known}", short(key)));
        }
    };
    match (good, key) {
        (true, _) => Ok(()),
        (false, "path") => {
            Err(format!("{:?} is not an absolute path: write unix:path:/usr/bin/…", short(text)))
        }
        (false, _) => Err(not_sha256(text)),
    }
}

/// A user or group id, in the one spelling that an attestor gives.
fn number(text: &str, value: &str) -> Result<(), String> {
    match value.parse::<u32>() {
        Ok(OVERFLOW_ID | u32::MAX) => {
            Err(format!("{} could never match: the kernel shows it for ids that it cannot map", short(text)))
        }
        Ok(n) if n.to_string() == value => Ok(()),
        Ok(n) => Err(format!("{}: write the number as {n}", short(text))),
        Err(_) => Err(format!("{:?} is not a number: use unix:user or unix:group for names", short(text))),
    }
}
