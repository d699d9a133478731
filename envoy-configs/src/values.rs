//! The settings, checked once and spelled as YAML, and the parts that they choose.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::matchers::{self, workload};
use crate::scalar::{self, MAX_PATH, MAX_SOCKET_PATH, address, quoted};
use crate::signatures;
use crate::template::{self, Values};
use crate::{
    Api, Callee, EdgeTls, Families, Host, Identity, Kind, Receipts, Remote, RenderError, Route, Server,
    Settings, Shown,
};

const ADS: &str = "{ resource_api_version: V3, initial_fetch_timeout: 5s, ads: {} }";

pub(crate) fn checked(kind: Kind, settings: &Settings) -> Result<Values, RenderError> {
    of_its_kind(kind, &settings.callee)?;
    if kind == Kind::OnDemand && settings.api != Api::Ads {
        return Err(RenderError::OnDemandWithoutAds);
    }
    let is_ads = settings.api == Api::Ads;
    let is_edge_in_clear = settings.edge_tls.is_none();
    let choice = |holds: bool, part: &str| if holds { part } else { "" }.to_owned();
    let second = |first: SocketAddr| second(settings.families, first);
    let receipts = match settings.receipts {
        Receipts::Every(interval) => scalar::flush(interval)?,
        Receipts::Never => String::new(),
    };
    let mut values = Values::from([
        // First: the command line names the node by it.
        ("service", scalar::label("service", &settings.service)?),
        ("node_id", scalar::label("node_id", &settings.node_id)?),
        ("identity", identity(&settings.identity)?),
        ("api_type", if settings.api == Api::Sotw { "GRPC" } else { "DELTA_GRPC" }.to_owned()),
        ("sds", if is_ads { "sds-ads" } else { "sds" }.to_owned()),
        ("sds_ref", if is_ads { ADS } else { "*sds" }.to_owned()),
        ("static_upstream", choice(!is_ads, "upstream")),
        ("dynamic", choice(is_ads, "dynamic")),
        // Else Envoy refuses a route to what is not among the static clusters.
        ("later_clusters", choice(is_ads, "validate_clusters: false")),
        ("cluster_type", choice(is_ads, "cluster-type")),
        ("clusters", scalar::path("clusters", &settings.clusters, MAX_PATH)?),
        ("inbound", address(settings.inbound)),
        ("inbound_second", second(settings.inbound)),
        ("callers", matchers::callers(settings)?),
        ("callers_roots", matchers::callers_roots(&settings.callers)),
        ("app", address(settings.app)),
        ("outbound", in_clear("outbound", settings.outbound)?),
        ("outbound_second", second(settings.outbound)),
        ("health", address(settings.health)),
        ("health_second", second(settings.health)),
        ("edge", if is_edge_in_clear { in_clear("edge", settings.edge)? } else { address(settings.edge) }),
        ("edge_tls", choice(settings.edge_tls.is_some(), "edge-tls")),
        ("callee", matchers::callee(settings)?),
        ("callee_roots", matchers::callee_roots(settings)),
        ("sni", choice(settings.server_name.is_some(), "sni")),
        ("admin", scalar::admin(&settings.admin)?),
        ("connection_age", scalar::age(settings.connection_age)?),
        ("receipts", receipts),
        ("signatures", signatures::tls_params(&settings.keys)),
        // Without secrets there is nothing to prove, and nobody to tell it.
        (
            "receipts_sink",
            choice(kind != Kind::Passthrough && settings.receipts != Receipts::Never, "receipts"),
        ),
    ]);
    if let Some(name) = &settings.server_name {
        values.insert("sni_name", scalar::server_name("server_name", name)?);
    }
    match &settings.edge_tls {
        Some(EdgeTls::Files { certificate_chain, private_key }) => {
            values.insert("edge_certificate", "edge-files".to_owned());
            values.insert("edge_chain", scalar::path("edge_certificate", certificate_chain, MAX_PATH)?);
            values.insert("edge_key", scalar::path("edge_key", private_key, MAX_PATH)?);
        }
        Some(EdgeTls::Named(name)) => {
            values.insert("edge_certificate", "edge-named".to_owned());
            values.insert("edge_name", scalar::server_name("edge_name", name)?);
        }
        None => {}
    }
    values.extend(certificates(kind, settings)?);
    values.extend(server(settings)?);
    values.extend(upstream(kind, settings)?);
    values.extend(arrival(kind, &settings.callee));
    Ok(values)
}

/// The address of a listener that asks nobody for a certificate.
fn in_clear(field: &'static str, listen: SocketAddr) -> Result<String, RenderError> {
    if listen.ip().is_loopback() {
        Ok(address(listen))
    } else {
        Err(RenderError::InClear { field, address: listen })
    }
}

/// Where Countersign is: its socket, or its door to the network.
fn server(settings: &Settings) -> Result<Values, RenderError> {
    let Some(remote) = &settings.remote else {
        let socket = scalar::path("socket", &settings.socket, MAX_SOCKET_PATH)?;
        return Ok(Values::from([
            ("sds_type", "STATIC".to_owned()),
            ("sds_address", format!("{{ pipe: {{ path: {socket} }} }}")),
            ("sds_tls", String::new()),
        ]));
    };
    let Remote { host: Host { host, port }, certificate_chain, private_key, roots } = remote;
    let is_address = host.parse::<IpAddr>().is_ok();
    let mut values = Values::from([
        // Envoy resolves a name again and again: the server may move.
        ("sds_type", if is_address { "STATIC" } else { "STRICT_DNS" }.to_owned()),
        ("sds_address", scalar::host_address("remote", host, *port)?),
        ("sds_tls", "sds-tls".to_owned()),
        ("sds_sni", if is_address { "" } else { "sds-sni" }.to_owned()),
        ("sds_chain", scalar::path("remote_certificate", certificate_chain, MAX_PATH)?),
        ("sds_key", scalar::path("remote_key", private_key, MAX_PATH)?),
        ("sds_ca", scalar::path("remote_roots", roots, MAX_PATH)?),
        ("sds_server", quoted(&format!("spiffe://{}/countersign/server", settings.trust_domain))),
    ]);
    if !is_address {
        values.insert("sds_host", quoted(host));
    }
    Ok(values)
}

fn of_its_kind(kind: Kind, callee: &Callee) -> Result<(), RenderError> {
    let (callee, fits) = match callee {
        Callee::ByServerName(_) => ("a choice by server name", kind == Kind::Passthrough),
        Callee::Server(_) => (
            "a server outside the mesh",
            !matches!(kind, Kind::Passthrough | Kind::Transparent | Kind::OnDemand),
        ),
        Callee::Workload(_) | Callee::Named(_) | Callee::Domain => {
            ("a member of the mesh", !matches!(kind, Kind::Passthrough | Kind::Egress))
        }
    };
    if fits { Ok(()) } else { Err(RenderError::NotOfKind { callee, kind: kind.name() }) }
}

/// How the own certificates are chosen, on both sides.
fn certificates(kind: Kind, settings: &Settings) -> Result<Values, RenderError> {
    if kind != Kind::OnDemand {
        return Ok(Values::from([
            ("inbound_certificate", "certificate-fixed".to_owned()),
            ("upstream_certificate", "client-certificate".to_owned()),
            ("identity_filter", String::new()),
        ]));
    }
    let names = settings.prefetch.iter().map(|name| scalar::server_name("prefetch", name));
    let names = names.collect::<Result<Vec<_>, _>>()?.join(", ");
    let prefetch = if names.is_empty() { names } else { format!("prefetch_secret_names: [{names}]") };
    Ok(Values::from([
        ("inbound_certificate", "certificate-by-name".to_owned()),
        ("upstream_certificate", "client-certificate-by-name".to_owned()),
        ("identity_filter", "identity-by-name".to_owned()),
        ("prefetch", prefetch),
    ]))
}

/// Where outgoing calls go, and how who answers is checked.
fn upstream(kind: Kind, settings: &Settings) -> Result<Values, RenderError> {
    let mut values = Values::from([
        ("upstreams", String::new()),
        ("upstream_hosts", "upstream-hosts".to_owned()),
        ("upstream_tls", "upstream-mesh".to_owned()),
        ("host", String::new()),
    ]);
    match &settings.callee {
        Callee::ByServerName(routes) => values.extend(passed(routes)?),
        _ if kind == Kind::Transparent => {
            values.insert("upstream_hosts", "upstream-original".to_owned());
        }
        _ => {
            values.insert("upstreams", scalar::endpoints("upstreams", &settings.upstreams)?);
        }
    }
    if let Callee::Server(Server { name, roots, shown }) = &settings.callee {
        let is_shown = *shown == Shown::Svid;
        let name = scalar::server_name("callee", name)?;
        values.insert("upstream_tls", "upstream-server".to_owned());
        values.insert("host", format!(", host_rewrite_literal: {name}"));
        values.insert("server_name", name);
        values.insert("server_roots", scalar::path("upstream_roots", roots, MAX_PATH)?);
        values.insert("server_tls", if is_shown { "TLSv1_3" } else { "TLSv1_2" }.to_owned());
        values.insert("server_certificate", if is_shown { "client-certificate" } else { "" }.to_owned());
    }
    Ok(values)
}

/// What becomes of mesh callers: they reach the application, or go on to the called service.
fn arrival(kind: Kind, callee: &Callee) -> Values {
    let ends_here = matches!(kind, Kind::Sidecar | Kind::Permissive | Kind::Transparent);
    let leaves_mesh = !ends_here && matches!(callee, Callee::Server(_));
    let host = match callee {
        Callee::Server(server) if leaves_mesh => {
            format!(", host_rewrite_literal: {}", quoted(&server.name))
        }
        _ => String::new(),
    };
    Values::from([
        ("inbound_cluster", if ends_here { "app" } else { "upstream" }.to_owned()),
        ("inbound_host", host),
        ("peer_details", if leaves_mesh { "peer-kept" } else { "peer-told" }.to_owned()),
        ("peer_header", if leaves_mesh { "peer-header-removed" } else { "peer-header" }.to_owned()),
    ])
}

/// A chain and a cluster for each server name.
fn passed(routes: &[Route]) -> Result<Values, RenderError> {
    let (mut chains, mut clusters) = (String::new(), String::new());
    for (n, Route { name, hosts }) in routes.iter().enumerate() {
        if routes.iter().take(n).any(|other| other.name == *name) {
            return Err(scalar::unusable("callee", name, "each server name once"));
        }
        let values = Values::from([
            ("name", scalar::server_name("callee", name)?),
            ("hosts", scalar::endpoints("callee", hosts)?),
        ]);
        for (out, part) in [(&mut chains, "passed-chain"), (&mut clusters, "passed-cluster")] {
            let part = crate::part(part).ok_or_else(|| RenderError::Template(part.into()))?;
            out.push_str(&template::fill(part, &crate::part, &values)?);
        }
    }
    if routes.is_empty() {
        return Err(RenderError::NoUpstream);
    }
    Ok(Values::from([("passed_chains", chains), ("passed_clusters", clusters)]))
}

/// The same port of the other family: the kernel redirects each to its own.
fn second(families: Families, first: SocketAddr) -> String {
    let IpAddr::V4(v4) = first.ip() else { return String::new() };
    let other = if v4.is_unspecified() {
        Ipv6Addr::UNSPECIFIED
    } else if v4.is_loopback() {
        Ipv6Addr::LOCALHOST
    } else {
        return String::new();
    };
    match families {
        Families::Both => {
            format!("additional_addresses: [ {{ address: {} }} ]", address((other, first.port()).into()))
        }
        Families::Ipv4 => String::new(),
    }
}

fn identity(identity: &Identity) -> Result<String, RenderError> {
    match identity {
        Identity::Default => Ok(quoted("default")),
        Identity::Named(id) => workload("identity", id),
    }
}
