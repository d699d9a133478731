//! `envoy bootstrap`: the flags as settings of a bootstrap, rendered.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use envoy_configs::{
    Api, Callee, Callers, EdgeTls, Families, Identity, KeyKind, Kind, Receipts, Remote, Server, Settings,
    Shown,
};
use spiffe_bridge::identity::{SpiffeId, TrustDomain, parse_workload_id};
use spiffe_bridge::keys::KeyType;

mod addresses;
mod words;

use super::args::{BootstrapApi, BootstrapArgs, BootstrapKind, BootstrapPart};
use super::output::Printer;
use super::{Ended, Fault, Outcome};
use crate::config::Environment;

pub(super) fn run(mut args: BootstrapArgs, environment: &Environment, out: &mut Printer) -> Ended {
    let server = super::settings(std::mem::take(&mut args.config), environment)?;
    let (output, part) = (args.output.take(), args.part);
    let kind = match args.kind {
        BootstrapKind::Sidecar => Kind::Sidecar,
        BootstrapKind::Permissive => Kind::Permissive,
        BootstrapKind::Transparent => Kind::Transparent,
        BootstrapKind::Gateway => Kind::Gateway,
        BootstrapKind::Passthrough => Kind::Passthrough,
        BootstrapKind::Egress => Kind::Egress,
        BootstrapKind::OnDemand => Kind::OnDemand,
    };
    of_its_kind(kind, &args).map_err(Fault::Usage)?;
    let callee = words::callee_flag(&args);
    let settings = settings(kind, args, &server).map_err(Fault::Usage)?;
    addresses::one_each(kind, &settings).map_err(Fault::Usage)?;
    let text = match part {
        BootstrapPart::Bootstrap => envoy_configs::render(kind, &settings),
        BootstrapPart::Clusters => envoy_configs::render_clusters(kind, &settings),
    };
    let text = text.map_err(|error| Fault::Usage(words::in_flags(error, kind, callee)))?;
    match output {
        Some(path) => {
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => out.line(&text)?,
    }
    Ok(Outcome::Well)
}

/// A flag that would change nothing is a mistake.
fn of_its_kind(kind: Kind, args: &BootstrapArgs) -> anyhow::Result<()> {
    use Kind::{Egress, Gateway, OnDemand, Passthrough, Permissive, Sidecar, Transparent};
    let is_ads = args.api == Some(BootstrapApi::Ads) || kind == OnDemand;
    let all_but_passthrough: &[Kind] = &[Sidecar, Permissive, Transparent, Gateway, Egress, OnDemand];
    let rules: [(&str, bool, &[Kind]); 17] = [
        ("--remote", args.remote.is_some(), all_but_passthrough),
        ("--app", args.app.is_some(), &[Sidecar, Permissive]),
        ("--outbound", args.outbound.is_some(), &[Sidecar, Permissive, Transparent, Egress]),
        ("--edge", args.edge.is_some(), &[Gateway]),
        ("--edge-certificate", args.edge_certificate.is_some(), &[Gateway]),
        ("--edge-name", args.edge_name.is_some(), &[Gateway]),
        ("--health", args.health.is_some(), &[Transparent]),
        ("--ipv4-only", args.ipv4_only, &[Transparent]),
        ("--prefetch", !args.prefetch.is_empty(), &[OnDemand]),
        ("--route", !args.routes.is_empty(), &[Passthrough]),
        ("--upstream", !args.upstreams.is_empty(), &[Sidecar, Permissive, Gateway, Egress, OnDemand]),
        ("--server-name", args.server_name.is_some(), &[Sidecar, Permissive, Transparent, Gateway]),
        ("--peer", !args.peers.is_empty(), all_but_passthrough),
        ("--peers-from-entries", args.peers_from_entries, all_but_passthrough),
        ("--identity", args.identity.is_some(), all_but_passthrough),
        ("--api", args.api.is_some(), all_but_passthrough),
        ("--no-receipts", args.no_receipts, all_but_passthrough),
    ];
    if let Some((flag, _, kinds)) =
        rules.iter().find(|(_, is_given, kinds)| *is_given && !kinds.contains(&kind))
    {
        let kinds: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        return Err(anyhow!("{flag} is for --kind {} only: leave it out", kinds.join(", ")));
    }
    if args.show_certificate && args.upstream_server.is_none() {
        return Err(anyhow!("--show-certificate goes with --upstream-server only: leave it out"));
    }
    if args.clusters.is_some() && !is_ads {
        return Err(anyhow!("--clusters is for --api ads only: leave it out, or add --api ads"));
    }
    Ok(())
}

fn settings(kind: Kind, args: BootstrapArgs, server: &crate::config::Settings) -> anyhow::Result<Settings> {
    let own_id = |flag, text: &str, instead| own_id(flag, text, &server.trust_domain, instead);
    let callee = if let Some(text) = &args.upstream_id {
        // Of another trust domain too: it is checked against the roots of its own.
        Callee::Workload(parse_workload_id(text).context("--upstream-id")?)
    } else if let Some(name) = args.upstream_name {
        Callee::Named(name)
    } else if let Some(name) = args.upstream_server {
        let shown = if args.show_certificate { Shown::Svid } else { Shown::Nothing };
        Callee::Server(Server { name, roots: absolute("--upstream-roots", &args.upstream_roots)?, shown })
    } else if args.upstream_domain {
        Callee::Domain
    } else {
        Callee::ByServerName(addresses::routes(&args.routes)?)
    };
    let defaults = Settings::new(kind, server.trust_domain.clone(), callee);
    let identity = args.identity.map(|text| own_id("--identity", &text, "give one that an entry here gives"));
    let identity = identity.transpose()?;
    let callers = match args.peers.as_slice() {
        _ if args.peers_from_entries => Callers::Entries,
        [] => Callers::Domain,
        peers => {
            let peers = peers.iter().map(|text| own_id("--peer", text, OTHERS_CALL));
            Callers::Listed(peers.collect::<Result<_, _>>()?)
        }
    };
    let upstreams: Vec<_> =
        args.upstreams.iter().map(|text| addresses::host("--upstream", text)).collect::<Result<_, _>>()?;
    let files = args.remote_cert.zip(args.remote_key).zip(args.remote_ca);
    let remote = args.remote.zip(files).map(|(remote, ((certificate_chain, private_key), roots))| {
        let host = addresses::host("--remote", &remote)?;
        anyhow::Ok(Remote {
            host,
            certificate_chain: absolute("--remote-cert", &certificate_chain)?,
            private_key: absolute("--remote-key", &private_key)?,
            roots: absolute("--remote-ca", &roots)?,
        })
    });
    let edge_files = args.edge_certificate.zip(args.edge_key);
    let edge_files = edge_files.map(|(certificate_chain, private_key)| {
        anyhow::Ok(EdgeTls::Files {
            certificate_chain: absolute("--edge-certificate", &certificate_chain)?,
            private_key: absolute("--edge-key", &private_key)?,
        })
    });
    Ok(Settings {
        node_id: args.node_id.unwrap_or_else(|| args.service.clone()),
        service: args.service,
        identity: identity.map_or(Identity::Default, Identity::Named),
        socket: server.socket.clone(),
        remote: remote.transpose()?,
        api: match args.api {
            Some(BootstrapApi::Delta) => Api::Delta,
            Some(BootstrapApi::Sotw) => Api::Sotw,
            Some(BootstrapApi::Ads) => Api::Ads,
            None => defaults.api,
        },
        clusters: args.clusters.map_or(Ok(defaults.clusters), |path| absolute("--clusters", &path))?,
        inbound: args.inbound.unwrap_or(defaults.inbound),
        callers,
        app: args.app.unwrap_or(defaults.app),
        outbound: args.outbound.unwrap_or(defaults.outbound),
        edge: args.edge.unwrap_or(defaults.edge),
        edge_tls: edge_files.transpose()?.or(args.edge_name.map(EdgeTls::Named)),
        prefetch: args.prefetch,
        health: args.health.unwrap_or(defaults.health),
        families: if args.ipv4_only { Families::Ipv4 } else { Families::Both },
        upstreams: if upstreams.is_empty() { defaults.upstreams } else { upstreams },
        keys: args.key_types.into_iter().map(kind_of).collect(),
        server_name: args.server_name.or(defaults.server_name),
        receipts: if args.no_receipts { Receipts::Never } else { defaults.receipts },
        admin: args.admin.map_or(Ok(defaults.admin), |text| addresses::admin(&text))?,
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

/// What a caller of another trust domain needs: its roots come with the entries alone.
const OTHERS_CALL: &str = "list callers of other trust domains as `peers` in the entry of this service, and give --peers-from-entries";

/// An ID of our own trust domain; else `instead` says what to do.
fn own_id(
    flag: &'static str,
    text: &str,
    trust_domain: &TrustDomain,
    instead: &str,
) -> anyhow::Result<SpiffeId> {
    let id = parse_workload_id(text).context(flag)?;
    if id.trust_domain() != trust_domain {
        return Err(anyhow!("{flag}: {id} is not of {trust_domain}: {instead}"));
    }
    Ok(id)
}

/// Envoy may be started elsewhere than this command.
fn absolute(flag: &'static str, path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{flag}: {path:?} is no path"))
}
