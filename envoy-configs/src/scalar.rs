//! Text to YAML: what comes out of here can be pasted anywhere.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::{Admin, Host, RenderError};

/// `sun_path` of a Unix socket holds 108 bytes with its closing zero.
pub(crate) const MAX_SOCKET_PATH: usize = 107;
/// `PATH_MAX` of Linux.
pub(crate) const MAX_PATH: usize = 4096;

pub(crate) fn unusable(field: &'static str, value: &str, rule: &'static str) -> RenderError {
    RenderError::Unusable { field, value: value.chars().take(200).collect(), rule }
}

/// A double-quoted YAML scalar. Only the two characters that end or escape it need care: control
/// characters never come here.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A free name: shown in logs and statistics, so printable and short.
pub(crate) fn label(field: &'static str, text: &str) -> Result<String, RenderError> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if fits { Ok(quoted(text)) } else { Err(unusable(field, text, "1 to 255 printable ASCII characters")) }
}

pub(crate) fn path(field: &'static str, path: &Path, max: usize) -> Result<String, RenderError> {
    const RULE: &str = "an absolute UTF-8 path without control characters, short enough for its use";
    let lossy = path.to_string_lossy();
    let text = path.to_str().ok_or_else(|| unusable(field, &lossy, RULE))?;
    if path.is_absolute() && text.len() <= max && !text.chars().any(char::is_control) {
        Ok(quoted(text))
    } else {
        Err(unusable(field, text, RULE))
    }
}

pub(crate) fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A DNS name in the spelling in which Envoy compares server names.
pub(crate) fn server_name(field: &'static str, name: &str) -> Result<String, RenderError> {
    if is_dns_name(name) && !name.bytes().any(|b| b.is_ascii_uppercase()) {
        Ok(quoted(name))
    } else {
        Err(unusable(field, name, "a DNS name in lower case"))
    }
}

pub(crate) fn address(address: SocketAddr) -> String {
    socket_address(&address.ip().to_string(), address.port())
}

fn socket_address(host: &str, port: u16) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {port} }} }}", quoted(host))
}

/// The address of a host that has a name, or is one.
pub(crate) fn host_address(field: &'static str, host: &str, port: u16) -> Result<String, RenderError> {
    if host.parse::<IpAddr>().is_err() && !is_dns_name(host) {
        return Err(unusable(field, host, "an IP address or a DNS name"));
    }
    Ok(socket_address(host, port))
}

/// The endpoints of a cluster, a line each.
pub(crate) fn endpoints(field: &'static str, hosts: &[Host]) -> Result<String, RenderError> {
    if hosts.is_empty() {
        return Err(RenderError::NoUpstream);
    }
    let line = |Host { host, port }: &Host| -> Result<String, RenderError> {
        Ok(format!("- endpoint: {{ address: {} }}", host_address(field, host, *port)?))
    };
    Ok(hosts.iter().map(line).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

pub(crate) fn admin(admin: &Admin) -> Result<String, RenderError> {
    match admin {
        Admin::Tcp(listen) => Ok(address(*listen)),
        // 0600: whoever can write to it can stop Envoy.
        Admin::Unix(at) => {
            Ok(format!("{{ pipe: {{ path: {}, mode: 384 }} }}", path("admin", at, MAX_SOCKET_PATH)?))
        }
    }
}

pub(crate) fn age(age: Duration) -> Result<String, RenderError> {
    let seconds = age.as_secs();
    if (1..=86_400).contains(&seconds) && age.subsec_nanos() == 0 {
        Ok(format!("{seconds}s"))
    } else {
        Err(unusable("connection_age", &format!("{age:?}"), "whole seconds, one second to one day"))
    }
}

/// Envoy takes whole milliseconds, from 1 ms to 5 min.
pub(crate) fn flush(interval: Duration) -> Result<String, RenderError> {
    let millis = interval.as_millis();
    if (100..=300_000).contains(&millis) && interval.subsec_nanos().is_multiple_of(1_000_000) {
        Ok(format!("{}.{:03}s", millis / 1000, millis % 1000))
    } else {
        Err(unusable("receipts", &format!("{interval:?}"), "whole milliseconds, 100 ms to 5 minutes"))
    }
}
