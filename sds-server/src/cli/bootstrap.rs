//! `envoy bootstrap`: the flags as settings of a bootstrap, rendered.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use envoy_configs::{Admin, Api, Callee, Callers, EdgeTls, Host, Identity, KeyKind, Kind, Settings};
use spiffe_bridge::identity::{SpiffeId, TrustDomain, parse_workload_id};
use spiffe_bridge::keys::KeyType;

use super::args::{BootstrapApi, BootstrapArgs, BootstrapKind};
use super::output::Printer;
use super::{Ended, Fault, Outcome};
use crate::config::Environment;

pub(super) fn run(mut args: BootstrapArgs, environment: &Environment, out: &mut Printer) -> Ended {
    let server = super::settings(std::mem::take(&mut args.config), environment)?;
    let output = args.output.take();
    let kind = match args.kind {
        BootstrapKind::Sidecar => Kind::Sidecar,
        BootstrapKind::Gateway => Kind::Gateway,
    };
    of_its_kind(&args).map_err(Fault::Usage)?;
    let settings = settings(kind, args, &server).map_err(Fault::Usage)?;
    one_address_each(kind, &settings).map_err(Fault::Usage)?;
    let text = envoy_configs::render(kind, &settings).map_err(|error| Fault::Usage(error.into()))?;
    match output {
        Some(path) => {
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => out.line(&text)?,
    }
    Ok(Outcome::Well)
}

/// A flag that would change nothing is a mistake.
fn of_its_kind(args: &BootstrapArgs) -> anyhow::Result<()> {
    let (other, flags) = match args.kind {
        BootstrapKind::Sidecar => (
            "gateway",
            [("--edge", args.edge.is_some()), ("--edge-certificate", args.edge_certificate.is_some())],
        ),
        BootstrapKind::Gateway => {
            ("sidecar", [("--app", args.app.is_some()), ("--outbound", args.outbound.is_some())])
        }
    };
    match flags.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(anyhow!("{flag} is for --kind {other} only: leave it out")),
        None => Ok(()),
    }
}

fn settings(kind: Kind, args: BootstrapArgs, server: &crate::config::Settings) -> anyhow::Result<Settings> {
    let id = |flag, text: &str| id(flag, text, &server.trust_domain);
    let callee = match (args.upstream_id, args.upstream_name) {
        (Some(text), _) => Callee::Workload(id("--upstream-id", &text)?),
        (None, name) => Callee::Named(name.unwrap_or_default()),
    };
    let defaults = Settings::new(kind, server.trust_domain.clone(), callee);
    let identity = args.identity.map(|text| id("--identity", &text)).transpose()?;
    let callers = match args.peers.as_slice() {
        _ if args.peers_from_entries => Callers::Entries,
        [] => Callers::Domain,
        peers => Callers::Listed(peers.iter().map(|text| id("--peer", text)).collect::<Result<_, _>>()?),
    };
    let upstreams: Vec<_> = args.upstreams.iter().map(|text| host(text)).collect::<Result<_, _>>()?;
    let edge_tls = args.edge_certificate.zip(args.edge_key);
    Ok(Settings {
        node_id: args.node_id.unwrap_or_else(|| args.service.clone()),
        service: args.service,
        identity: identity.map_or(Identity::Default, Identity::Named),
        socket: server.socket.clone(),
        api: match args.api {
            BootstrapApi::Delta => Api::Delta,
            BootstrapApi::Sotw => Api::Sotw,
        },
        inbound: args.inbound.unwrap_or(defaults.inbound),
        callers,
        app: args.app.unwrap_or(defaults.app),
        outbound: args.outbound.unwrap_or(defaults.outbound),
        edge: args.edge.unwrap_or(defaults.edge),
        edge_tls: edge_tls.map(|(certificate_chain, private_key)| EdgeTls { certificate_chain, private_key }),
        upstreams: if upstreams.is_empty() { defaults.upstreams } else { upstreams },
        keys: args.key_types.into_iter().map(kind_of).collect(),
        admin: args.admin.map_or(Ok(defaults.admin), |text| admin(&text))?,
        ..defaults
    })
}

/// Envoy's names for signatures know no RSA sizes.
const fn kind_of(key_type: KeyType) -> KeyKind {
    match key_type {
        KeyType::EcP256 => KeyKind::EcP256,
        KeyType::EcP384 => KeyKind::EcP384,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => KeyKind::Rsa,
        KeyType::Ed25519 => KeyKind::Ed25519,
        KeyType::MlDsa44 => KeyKind::MlDsa44,
        KeyType::MlDsa65 => KeyKind::MlDsa65,
    }
}

/// Two listeners on one address keep Envoy from starting; an application there would be Envoy itself, in a loop.
fn one_address_each(kind: Kind, settings: &Settings) -> anyhow::Result<()> {
    let mut taken = vec![("--inbound", settings.inbound)];
    match kind {
        Kind::Sidecar => taken.extend([("--outbound", settings.outbound), ("--app", settings.app)]),
        Kind::Gateway => taken.push(("--edge", settings.edge)),
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

fn id(flag: &'static str, text: &str, trust_domain: &TrustDomain) -> anyhow::Result<SpiffeId> {
    let id = parse_workload_id(text).context(flag)?;
    if id.trust_domain() != trust_domain {
        // The bootstrap checks peers against the roots of its own trust domain alone.
        return Err(anyhow!(
            "{flag}: {id} is not of {trust_domain}: only members of one trust domain can meet yet"
        ));
    }
    Ok(id)
}

/// `host:port`, `[::1]:port`.
fn host(text: &str) -> anyhow::Result<Host> {
    let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.ok_or_else(|| anyhow!("--upstream: {text:?} is not HOST:PORT"))?;
    Ok(Host { host: host.trim_matches(['[', ']']).to_owned(), port })
}

fn admin(text: &str) -> anyhow::Result<Admin> {
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
