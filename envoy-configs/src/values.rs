//! The settings, checked once and spelled as YAML: what comes out of here can be pasted anywhere.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use spiffe::SpiffeId;

use crate::signatures;
use crate::template::Values;
use crate::{Admin, Api, Callee, Callers, Host, Identity, Kind, NOBODY, RenderError, Settings};

/// `sun_path` of a Unix socket holds 108 bytes with its closing zero.
const MAX_SOCKET_PATH: usize = 107;

pub(crate) fn checked(kind: Kind, settings: &Settings) -> Result<Values, RenderError> {
    let domain = settings.trust_domain.to_string();
    Ok(Values::from([
        ("node_id", label("node_id", &settings.node_id)?),
        ("service", label("service", &settings.service)?),
        ("identity", identity(&settings.identity)?),
        ("socket", path("socket", &settings.socket, MAX_SOCKET_PATH)?),
        ("api_type", if settings.api == Api::Delta { "DELTA_GRPC" } else { "GRPC" }.to_owned()),
        ("inbound", address(settings.inbound)),
        ("inbound_cluster", if kind == Kind::Sidecar { "app" } else { "upstream" }.to_owned()),
        ("callers", callers(settings, &domain)?),
        ("callers_roots", quoted(if settings.callers == Callers::Entries { "peers" } else { "ROOTCA" })),
        ("app", address(settings.app)),
        ("outbound", address(settings.outbound)),
        ("edge", address(settings.edge)),
        ("edge_tls", if settings.edge_tls.is_some() { "edge-tls" } else { "" }.to_owned()),
        ("edge_chain", edge_path(settings, |tls| &tls.certificate_chain)?),
        ("edge_key", edge_path(settings, |tls| &tls.private_key)?),
        ("upstreams", upstreams(&settings.upstreams)?),
        ("callee", callee(&settings.callee)?),
        ("callee_roots", callee_roots(&settings.callee, &domain)),
        ("admin", admin(&settings.admin)?),
        ("connection_age", age(settings.connection_age)?),
        ("receipts", flush(settings.receipts)?),
        ("signatures", signatures::tls_params(&settings.keys)),
    ]))
}

fn unusable(field: &'static str, value: &str, rule: &'static str) -> RenderError {
    RenderError::Unusable { field, value: value.chars().take(200).collect(), rule }
}

/// A free name: shown in logs and statistics, so printable and short.
fn label(field: &'static str, text: &str) -> Result<String, RenderError> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if fits { Ok(quoted(text)) } else { Err(unusable(field, text, "1 to 255 printable ASCII characters")) }
}

fn path(field: &'static str, path: &Path, max: usize) -> Result<String, RenderError> {
    const RULE: &str = "an absolute UTF-8 path without control characters, short enough for its use";
    let lossy = path.to_string_lossy();
    let text = path.to_str().ok_or_else(|| unusable(field, &lossy, RULE))?;
    if path.is_absolute() && text.len() <= max && !text.chars().any(char::is_control) {
        Ok(quoted(text))
    } else {
        Err(unusable(field, text, RULE))
    }
}

fn edge_path(
    settings: &Settings,
    of: impl Fn(&crate::EdgeTls) -> &std::path::PathBuf,
) -> Result<String, RenderError> {
    settings.edge_tls.as_ref().map_or(Ok(String::new()), |tls| path("edge_tls", of(tls), 4096))
}

fn identity(identity: &Identity) -> Result<String, RenderError> {
    match identity {
        Identity::Default => Ok(quoted("default")),
        Identity::Named(id) => workload("identity", id),
    }
}

/// An ID without a path is a trust domain's: no SVID has it, and as an SDS name it is a bundle.
fn workload(field: &'static str, id: &SpiffeId) -> Result<String, RenderError> {
    if id.path().is_empty() {
        return Err(unusable(field, &id.to_string(), "a workload's SPIFFE ID has a path"));
    }
    Ok(quoted(&id.to_string()))
}

/// Own domain's roots have a short name; another's are named by the domain's ID.
fn callee_roots(callee: &Callee, own: &str) -> String {
    quoted(&match callee {
        Callee::Workload(id) if id.trust_domain_name() == own => "ROOTCA".to_owned(),
        Callee::Workload(id) => format!("spiffe://{}", id.trust_domain_name()),
        Callee::Named(name) => format!("upstream:{name}"),
    })
}

fn callee(callee: &Callee) -> Result<String, RenderError> {
    match callee {
        Callee::Workload(id) => Ok(matcher("exact", &workload("callee", id)?)),
        Callee::Named(name) if is_dns_name(name) => Ok(matcher("exact", &quoted(NOBODY))),
        Callee::Named(name) => Err(unusable("callee", name, "a DNS name, as in the dns_names of an entry")),
    }
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The matchers that say who comes in. They are the floor too: without roots Envoy refuses them.
fn callers(settings: &Settings, domain: &str) -> Result<String, RenderError> {
    let peers = match &settings.callers {
        // The closing slash keeps out `spiffe://example.org.evil/`.
        Callers::Domain => return Ok(matcher("prefix", &quoted(&format!("spiffe://{domain}/")))),
        Callers::Entries => return Ok(matcher("exact", &quoted(NOBODY))),
        Callers::Listed(peers) if peers.is_empty() => return Err(RenderError::NoPeer),
        Callers::Listed(peers) => peers,
    };
    let mut lines = Vec::with_capacity(peers.len());
    for peer in peers {
        if peer.trust_domain_name() != domain {
            return Err(RenderError::ForeignPeer { peer: peer.to_string(), trust_domain: domain.to_owned() });
        }
        lines.push(matcher("exact", &workload("peers", peer)?));
    }
    Ok(lines.join("\n"))
}

fn matcher(kind: &str, scalar: &str) -> String {
    format!("- {{ san_type: URI, matcher: {{ {kind}: {scalar} }} }}")
}

fn address(address: SocketAddr) -> String {
    socket_address(&address.ip().to_string(), address.port())
}

fn socket_address(host: &str, port: u16) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {port} }} }}", quoted(host))
}

fn upstreams(hosts: &[Host]) -> Result<String, RenderError> {
    if hosts.is_empty() {
        return Err(RenderError::NoUpstream);
    }
    let line = |host: &Host| -> Result<String, RenderError> {
        let name = &host.host;
        if name.parse::<IpAddr>().is_err() && !is_dns_name(name) {
            return Err(unusable("upstreams", name, "an IP address or a DNS name"));
        }
        Ok(format!("- endpoint: {{ address: {} }}", socket_address(name, host.port)))
    };
    Ok(hosts.iter().map(line).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

fn admin(admin: &Admin) -> Result<String, RenderError> {
    match admin {
        Admin::Tcp(listen) => Ok(address(*listen)),
        // 0600: whoever can write to it can stop Envoy.
        Admin::Unix(at) => {
            Ok(format!("{{ pipe: {{ path: {}, mode: 384 }} }}", path("admin", at, MAX_SOCKET_PATH)?))
        }
    }
}

fn age(age: Duration) -> Result<String, RenderError> {
    let seconds = age.as_secs();
    if (1..=86_400).contains(&seconds) && age.subsec_nanos() == 0 {
        Ok(format!("{seconds}s"))
    } else {
        Err(unusable("connection_age", &format!("{age:?}"), "whole seconds, one second to one day"))
    }
}

/// Envoy takes whole milliseconds, from 1 ms to 5 min.
fn flush(interval: Duration) -> Result<String, RenderError> {
    let millis = interval.as_millis();
    if (100..=300_000).contains(&millis) && interval.subsec_nanos().is_multiple_of(1_000_000) {
        Ok(format!("{}.{:03}s", millis / 1000, millis % 1000))
    } else {
        Err(unusable("receipts", &format!("{interval:?}"), "whole milliseconds, 100 ms to 5 minutes"))
    }
}

/// A double-quoted YAML scalar. Only the two characters that end or escape it need care: control
/// characters never come here.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
