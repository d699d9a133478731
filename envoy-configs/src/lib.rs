//! Envoy bootstraps that speak mutual TLS with what Countersign serves, and the templates behind them.
//!
//! ```text
//! choices    the words of the settings            settings   what an operator chooses, with the defaults
//! values     the settings, checked                matchers   who may call, and who may answer
//! scalar     YAML scalars that cannot break out   template   placeholders and parts: text in, text out
//! signatures the kinds of keys that are spoken with
//! ```
//!
//! The YAML files beside this crate's manifest are these templates rendered with the defaults; a test
//! holds that they are equal, so there is one place to change. What a bootstrap never does, whatever
//! the settings (`permissive` and its counted chain apart): let anybody in without a certificate, speak
//! below TLS 1.3 inside the mesh, resume a session, fall open when a secret is missing or empty, or pass
//! on what other hosts say in clear.

use std::net::SocketAddr;

mod choices;
mod matchers;
mod scalar;
mod settings;
mod signatures;
mod template;
mod values;

pub use choices::{
    Admin, Api, Callee, Callers, EdgeTls, Families, Host, Identity, Kind, Remote, Route, Server, Shown,
};
pub use settings::{Receipts, Settings};
pub use signatures::KeyKind;

/// The floor under secrets that bring their own matchers: an ID that is never issued. It matches nobody, and makes
/// Envoy refuse a context that has no roots. A broader floor would let its own kind in beside those of the secret.
pub const NOBODY: &str = "spiffe://countersign.invalid/nobody";

/// Why a bootstrap was not rendered. Each is the fault of the settings.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenderError {
    /// A value is empty, too long, or has a character that no such value has.
    #[error("{field}: {value:?} is not usable: give {rule}")]
    Unusable { field: &'static str, value: String, rule: &'static str },
    /// Callers are checked against the roots of one trust domain only.
    #[error("peers: {peer} is not of trust domain {trust_domain}, whose roots check the callers")]
    ForeignPeer { peer: String, trust_domain: String },
    /// An empty list would be read as everybody, or as nobody.
    #[error("peers: name at least one caller")]
    NoPeer,
    /// Whoever reaches such a listener speaks with this Envoy's identity, from wherever it is reached.
    #[error("{field}: {address} is not a loopback address, and what comes in there needs no certificate")]
    InClear { field: &'static str, address: SocketAddr },
    /// A cluster without an address answers 503 to everything.
    #[error("upstreams: at least one address is needed")]
    NoUpstream,
    /// Passthrough without a way, or a way without passthrough; egress to a member of the mesh.
    #[error("callee: {callee} does not go with {kind}")]
    NotOfKind { callee: &'static str, kind: &'static str },
    /// Over state of the world an unknown name leaves a handshake hanging and a subscription behind.
    #[error("secrets on demand come by ADS only")]
    OnDemandWithoutAds,
    /// There is no file of clusters without ADS: they stand in the bootstrap.
    #[error("the clusters stand in the bootstrap itself, unless secrets come by ADS")]
    NoClusters,
    /// The templates of this crate are wrong; a test renders all of them.
    #[error("template: no value or part is named {0}")]
    Template(String),
}

/// The bootstrap of `kind` with `settings`, as YAML for `envoy --config-path`.
///
/// # Errors
/// [`RenderError`] names the setting that cannot be used.
pub fn render(kind: Kind, settings: &Settings) -> Result<String, RenderError> {
    template::fill(main(kind), &part, &values::checked(kind, settings)?)
}

/// With [`Api::Ads`]: the file that the bootstrap names in [`Settings::clusters`].
///
/// # Errors
/// [`RenderError`] names the setting that cannot be used.
pub fn render_clusters(kind: Kind, settings: &Settings) -> Result<String, RenderError> {
    if settings.api != Api::Ads || kind == Kind::Passthrough {
        return Err(RenderError::NoClusters);
    }
    let main = include_str!("../templates/clusters.yaml");
    template::fill(main, &part, &values::checked(kind, settings)?)
}

const fn main(kind: Kind) -> &'static str {
    match kind {
        Kind::Sidecar => include_str!("../templates/sidecar.yaml"),
        Kind::Permissive => include_str!("../templates/permissive.yaml"),
        Kind::Transparent => include_str!("../templates/transparent.yaml"),
        Kind::Gateway => include_str!("../templates/gateway.yaml"),
        Kind::Passthrough => include_str!("../templates/passthrough.yaml"),
        Kind::Egress => include_str!("../templates/egress.yaml"),
        Kind::OnDemand => include_str!("../templates/on-demand.yaml"),
    }
}

/// The pieces that several kinds share, written once.
fn part(name: &str) -> Option<&'static str> {
    macro_rules! parts {
        ($($name:literal)*) => {
            match name {
                $($name => include_str!(concat!("../templates/parts/", $name, ".yaml")),)*
                _ => return None,
            }
        };
    }
    Some(parts! {
        "node" "receipts" "sds" "sds-ads" "sds-cluster" "sds-tls" "sds-sni" "dynamic"
        "inbound" "inbound-log" "inbound-tls" "inbound-http" "tls-inspector" "original-dst" "health"
        "peer-told" "peer-kept" "peer-header" "peer-header-removed"
        "outbound" "outgoing" "edge-tls" "edge-files" "edge-named" "app-cluster"
        "upstream" "cluster-type" "upstream-hosts" "upstream-original" "upstream-mesh" "upstream-server" "sni"
        "client-certificate" "client-certificate-by-name" "certificate-fixed" "certificate-by-name" "identity-by-name"
        "passed-chain" "passed-cluster"
    })
}
