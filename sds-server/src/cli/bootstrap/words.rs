//! Why a bootstrap was not rendered, in the words of the command line: which flag, and what to give instead.

use anyhow::anyhow;
use envoy_configs::{Kind, RenderError};

use super::super::args::BootstrapArgs;

/// The flag that says who is called; one of them was given.
pub(super) fn callee_flag(args: &BootstrapArgs) -> &'static str {
    let flags = [
        ("--upstream-id", args.upstream_id.is_some()),
        ("--upstream-name", args.upstream_name.is_some()),
        ("--upstream-domain", args.upstream_domain),
        ("--upstream-server", args.upstream_server.is_some()),
    ];
    flags.into_iter().find_map(|(flag, is_given)| is_given.then_some(flag)).unwrap_or("--route")
}

pub(super) fn in_flags(error: RenderError, kind: Kind, callee: &'static str) -> anyhow::Error {
    match error {
        RenderError::Unusable { field, value, rule } => {
            anyhow!("{}: {value:?} is not usable: give {rule}", flag(field, callee))
        }
        RenderError::NotOfKind { .. } => {
            anyhow!("{callee} does not go with --kind {}: give {} instead", kind.name(), callees(kind))
        }
        RenderError::InClear { field: "edge", address } => anyhow!(
            "--edge: {address} is not a loopback address, and callers would come in there in clear: give \
             --edge-certificate and --edge-key, or --edge-name, or listen on 127.0.0.1"
        ),
        RenderError::InClear { field, address } => anyhow!(
            "{}: {address} is not a loopback address, and whoever reaches it speaks with this service's \
             identity: listen on 127.0.0.1",
            flag(field, callee)
        ),
        RenderError::OnDemandWithoutAds => {
            anyhow!("--api: --kind on-demand has its secrets by ADS only: give ads, or leave it out")
        }
        RenderError::NoClusters if kind == Kind::Passthrough => {
            anyhow!("--part clusters: --kind passthrough has all in the bootstrap: leave it out")
        }
        RenderError::NoClusters => {
            anyhow!("--part clusters: without ADS the clusters stand in the bootstrap itself: add --api ads")
        }
        other => other.into(),
    }
}

/// The flag behind a setting.
fn flag(field: &'static str, callee: &'static str) -> &'static str {
    match field {
        "node_id" => "--node-id",
        "service" => "--service",
        "identity" => "--identity",
        "socket" => "--socket",
        "clusters" => "--clusters",
        "admin" => "--admin",
        "peers" => "--peer",
        "callee" => callee,
        "upstreams" => "--upstream",
        "upstream_roots" => "--upstream-roots",
        "server_name" => "--server-name",
        "outbound" => "--outbound",
        "edge_certificate" => "--edge-certificate",
        "edge_key" => "--edge-key",
        "edge_name" => "--edge-name",
        "prefetch" => "--prefetch",
        "remote" => "--remote",
        "remote_certificate" => "--remote-cert",
        "remote_key" => "--remote-key",
        "remote_roots" => "--remote-ca",
        // What no flag sets.
        other => other,
    }
}

/// The flags of that kind which say who is called.
const fn callees(kind: Kind) -> &'static str {
    match kind {
        Kind::Passthrough => "--route",
        Kind::Egress => "--upstream-server",
        Kind::Transparent | Kind::OnDemand => "--upstream-id, --upstream-name or --upstream-domain",
        Kind::Sidecar | Kind::Permissive | Kind::Gateway => {
            "--upstream-id, --upstream-name, --upstream-domain or --upstream-server"
        }
    }
}
