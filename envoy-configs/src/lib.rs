//! Envoy bootstraps that speak mutual TLS with what Countersign serves, and the templates behind them.
//!
//! ```text
//! settings   what an operator chooses, with the documented defaults
//! values     the settings, checked and spelled as YAML scalars
//! signatures the kinds of keys that are spoken with
//! template   placeholders and parts: text in, text out, knows no Envoy word
//! ```
//!
//! `sidecar.yaml` and `gateway.yaml` beside this crate's manifest are these templates rendered with
//! the defaults; a test holds that they are equal, so there is one place to change. What a bootstrap
//! never does, whatever the settings: let anybody in without a certificate, speak below TLS 1.3,
//! resume a session, or fall open when a secret is missing or empty.

mod settings;
mod signatures;
mod template;
mod values;

pub use settings::{Admin, Api, Callee, Callers, EdgeTls, Host, Identity, Kind, Settings};
pub use signatures::KeyKind;

/// The floor under secrets that bring their own matchers: an ID that is never issued. It matches nobody, and makes
/// Envoy refuse a context that has no roots. A broader floor would let its own kind in beside those of the secret.
pub const NOBODY: &str = "spiffe://countersign.invalid/nobody";

/// Why a bootstrap was not rendered. Each is the fault of the settings.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenderError {
    /// A value is empty, too long, or has a character that no such value has.
    #[error("{field}: {value:?} is not usable: {rule}")]
    Unusable { field: &'static str, value: String, rule: &'static str },
    /// Callers are checked against the roots of one trust domain only.
    #[error("peers: {peer} is not of trust domain {trust_domain}, whose roots check the callers")]
    ForeignPeer { peer: String, trust_domain: String },
    /// An empty list would be read as everybody, or as nobody.
    #[error("peers: name at least one caller")]
    NoPeer,
    /// A cluster without an address answers 503 to everything.
    #[error("upstreams: at least one address is needed")]
    NoUpstream,
    /// The templates of this crate are wrong; a test renders all of them.
    #[error("template: no value or part is named {0}")]
    Template(String),
}

/// The bootstrap of `kind` with `settings`, as YAML for `envoy --config-path`.
///
/// # Errors
/// [`RenderError`] names the setting that cannot be used.
pub fn render(kind: Kind, settings: &Settings) -> Result<String, RenderError> {
    let values = values::checked(kind, settings)?;
    template::fill(main(kind), &part, &values)
}

const fn main(kind: Kind) -> &'static str {
    match kind {
        Kind::Sidecar => include_str!("../templates/sidecar.yaml"),
        Kind::Gateway => include_str!("../templates/gateway.yaml"),
    }
}

/// The pieces that both kinds share, written once.
fn part(name: &str) -> Option<&'static str> {
    Some(match name {
        "node" => include_str!("../templates/parts/node.yaml"),
        "receipts" => include_str!("../templates/parts/receipts.yaml"),
        "inbound" => include_str!("../templates/parts/inbound.yaml"),
        "outgoing" => include_str!("../templates/parts/outgoing.yaml"),
        "sds" => include_str!("../templates/parts/sds.yaml"),
        "upstream" => include_str!("../templates/parts/upstream.yaml"),
        "sds-cluster" => include_str!("../templates/parts/sds-cluster.yaml"),
        "edge-tls" => include_str!("../templates/parts/edge-tls.yaml"),
        _ => return None,
    })
}
