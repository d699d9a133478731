//! What does not fit together in the section of the socket for brokers.

use std::path::Path;

use spiffe_bridge::identity::{TrustDomain, parse_workload_id};
use spiffe_bridge::x509::DnsNames;

use super::settings::{Found, MAX_SOCKET_BYTES};
use crate::broker_api::Config;

/// The most brokers of a node: they are infrastructure, each of them trusted with every workload's identity.
const MAX_ALLOWED: usize = 64;

/// Makes the path absolute, and adds what is wrong to `found`. `api` is the other socket.
pub(super) fn settle(
    config: &mut Config,
    trust_domain: Option<&TrustDomain>,
    api: Option<&Path>,
    found: &mut Found,
) {
    let mut find = |key, advice: String| found.push((key, advice));
    match &mut config.socket {
        None if !config.allow.is_empty() || config.group.is_some() => {
            find(
                "broker.socket",
                "broker.* is of no use without it: give the path, or leave all out".to_owned(),
            );
        }
        None => {}
        Some(socket) => {
            match std::path::absolute(&socket) {
                Ok(absolute) => *socket = absolute,
                Err(error) => find("broker.socket", format!("{socket:?}: {error}")),
            }
            if socket.as_os_str().len() > MAX_SOCKET_BYTES {
                let advice = "a socket's path has at most 107 bytes: choose a shorter one";
                find("broker.socket", advice.to_owned());
            }
            if api == Some(socket) {
                find(
                    "broker.socket",
                    "it is the API socket, where everybody calls: choose another".to_owned(),
                );
            }
            if config.allow.is_empty() {
                let advice = "without it nobody would be answered: name the SPIFFE IDs of the brokers";
                find("broker.allow", advice.to_owned());
            }
        }
    }
    if config.allow.len() > MAX_ALLOWED {
        find("broker.allow", format!("at most {MAX_ALLOWED} brokers: each has every workload's identity"));
    }
    for text in &config.allow {
        match parse_workload_id(text) {
            Err(error) => find("broker.allow", error.to_string()),
            Ok(id) if trust_domain.is_some_and(|domain| domain != id.trust_domain()) => {
                find("broker.allow", format!("{text} is of another trust domain: brokers are of our own"));
            }
            Ok(_) => {}
        }
    }
    if let Err(error) = DnsNames::parse(&config.dns_names) {
        find("broker.dns_names", error.to_string());
    }
    if config.streams < 2 {
        let advice = "half of them is the most that one broker takes: give at least 2";
        find("broker.streams", advice.to_owned());
    }
}
