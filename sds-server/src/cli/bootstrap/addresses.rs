//! The addresses of a bootstrap: read from flags, and none twice.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use envoy_configs::{Admin, Host, Kind, Route, Settings};

/// Two listeners on one address keep Envoy from starting; an application there would be Envoy itself, in a loop.
pub(super) fn one_each(kind: Kind, settings: &Settings) -> anyhow::Result<()> {
    let mut taken = vec![("--inbound", settings.inbound)];
    match kind {
        Kind::Sidecar | Kind::Permissive => {
            taken.extend([("--outbound", settings.outbound), ("--app", settings.app)]);
        }
        Kind::Transparent => {
            taken.extend([("--outbound", settings.outbound), ("--health", settings.health)]);
        }
        Kind::Gateway => taken.push(("--edge", settings.edge)),
        Kind::Egress => taken.push(("--outbound", settings.outbound)),
        Kind::Passthrough | Kind::OnDemand => {}
    }
    if let Admin::Tcp(address) = &settings.admin {
        taken.push(("--admin", *address));
    }
    let meet = |a: SocketAddr, b: SocketAddr| {
        let any = a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() == b.port() && (a.ip() == b.ip() || any && a.is_ipv4() == b.is_ipv4())
    };
    for (n, (flag, address)) in taken.iter().enumerate() {
        // The port 0 lets the system choose one.
        let other = taken.iter().skip(n + 1).find(|(_, other)| address.port() != 0 && meet(*address, *other));
        if let Some((other_flag, other)) = other {
            return Err(anyhow!(
                "{flag} {address} and {other_flag} {other} are one address: give {other_flag} another port"
            ));
        }
    }
    Ok(())
}

/// `DNS=HOST:PORT`, several of one name together.
pub(super) fn routes(texts: &[String]) -> anyhow::Result<Vec<Route>> {
    let mut routes: Vec<Route> = Vec::new();
    for text in texts {
        let (name, to) =
            text.split_once('=').ok_or_else(|| anyhow!("--route: {text:?} is not DNS=HOST:PORT"))?;
        let to = host("--route", to)?;
        match routes.iter_mut().find(|route| route.name == name) {
            Some(route) => route.hosts.push(to),
            None => routes.push(Route { name: name.to_owned(), hosts: vec![to] }),
        }
    }
    Ok(routes)
}

/// `host:port`, `[::1]:port`.
pub(super) fn host(flag: &str, text: &str) -> anyhow::Result<Host> {
    let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.ok_or_else(|| anyhow!("{flag}: {text:?} is not HOST:PORT"))?;
    Ok(Host { host: host.trim_matches(['[', ']']).to_owned(), port })
}

pub(super) fn admin(text: &str) -> anyhow::Result<Admin> {
    if text.starts_with('/') {
        return Ok(Admin::Unix(PathBuf::from(text)));
    }
    let address: SocketAddr =
        text.parse().with_context(|| format!("--admin: {text:?} is no address, and no absolute path"))?;
    if !address.ip().is_loopback() {
        // Whoever reaches it can shut Envoy down.
        return Err(anyhow!("--admin: {address} is not a loopback address: use 127.0.0.1, or a path"));
    }
    Ok(Admin::Tcp(address))
}
