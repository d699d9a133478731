//! What an operator chooses for a bootstrap, and the defaults that the standing files have.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use spiffe::{SpiffeId, TrustDomain};

use crate::KeyKind;

/// Which Envoy the bootstrap is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Beside one application: its calls go out, and its callers come in, over mutual TLS.
    Sidecar,
    /// At the edge of the mesh: plain or TLS callers from outside reach a service inside.
    Gateway,
}

/// The choices. Start from [`Settings::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `node.id`: names this Envoy in the server's list of streams. It is a label, never a proof.
    pub node_id: String,
    /// `node.cluster`: the service that this Envoy belongs to.
    pub service: String,
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// The SDS name of the own certificate.
    pub identity: Identity,
    /// Countersign's socket, for SDS.
    pub socket: PathBuf,
    /// Which of the two SDS protocols.
    pub api: Api,
    /// Where mesh callers come in, over mutual TLS.
    pub inbound: SocketAddr,
    /// Who may come in there.
    pub callers: Callers,
    /// The sidecar's own application.
    pub app: SocketAddr,
    /// Sidecar: where the application sends its calls, in plain text. On loopback.
    pub outbound: SocketAddr,
    /// Gateway: where callers from outside the mesh come in.
    pub edge: SocketAddr,
    /// Gateway: the certificate for callers from outside; none means plain HTTP.
    pub edge_tls: Option<EdgeTls>,
    /// Where outgoing calls go: the inbound listeners of the called service.
    pub upstreams: Vec<Host>,
    /// Who must answer there.
    pub callee: Callee,
    /// The keys that it and its mesh peers have, preferred ones first; empty for what Envoy speaks by itself. With
    /// a list, a peer with another key is refused.
    pub keys: Vec<KeyKind>,
    /// Envoy's admin interface. It can shut Envoy down, so never on a public address.
    pub admin: Admin,
    /// The longest that a connection lives, so that a revoked or expired peer goes away. Whole seconds.
    pub connection_age: Duration,
    /// How often Envoy tells Countersign its counters of certificates, which prove what it really uses: so long a
    /// proof takes. Whole milliseconds.
    pub receipts: Duration,
}

impl Settings {
    /// The defaults of the standing files, for a member of `trust_domain` that calls `callee`.
    #[must_use]
    pub fn new(kind: Kind, trust_domain: TrustDomain, callee: Callee) -> Self {
        let (name, inbound, upstream) = match kind {
            Kind::Sidecar => ("sidecar", 15006, 15106),
            Kind::Gateway => ("gateway", 15016, 15006),
        };
        Self {
            node_id: name.into(),
            service: name.into(),
            trust_domain,
            identity: Identity::Default,
            socket: "/run/countersign/api.sock".into(),
            api: Api::Delta,
            inbound: (Ipv4Addr::UNSPECIFIED, inbound).into(),
            callers: Callers::Domain,
            app: (Ipv4Addr::LOCALHOST, 8080).into(),
            outbound: (Ipv4Addr::LOCALHOST, 15001).into(),
            edge: (Ipv4Addr::LOCALHOST, 8000).into(),
            edge_tls: None,
            upstreams: vec![Host { host: "127.0.0.1".into(), port: upstream }],
            callee,
            keys: Vec::new(),
            admin: Admin::Tcp(
                (Ipv4Addr::LOCALHOST, if kind == Kind::Sidecar { 15000 } else { 15010 }).into(),
            ),
            connection_age: Duration::from_secs(600),
            receipts: Duration::from_secs(1),
        }
    }
}

/// Which certificate Envoy asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The caller's first identity, whatever its name.
    Default,
    /// Exactly this one.
    Named(SpiffeId),
}

/// Who may call this Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callers {
    /// Everybody of the own trust domain.
    Domain,
    /// These of the own trust domain; at least one.
    Listed(Vec<SpiffeId>),
    /// Whom the entries of the own identity list as `peers`, of whatever trust domain. They arrive with the roots.
    Entries,
}

/// Who may answer this Envoy's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callee {
    /// Exactly this one.
    Workload(SpiffeId),
    /// The workloads whose entries have this DNS name and list the caller among their `peers`.
    Named(String),
}

/// The SDS protocol, over one stream a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `DeltaSecrets`: can say "no such secret", so that Envoy starts without waiting.
    Delta,
    /// `StreamSecrets`: state of the world.
    Sotw,
}

/// The address of a called service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// An IP address or a DNS name, resolved by Envoy.
    pub host: String,
    pub port: u16,
}

/// Where Envoy's admin interface listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The edge's own certificate: files of a public CA, which Envoy watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeTls {
    pub certificate_chain: PathBuf,
    pub private_key: PathBuf,
}
