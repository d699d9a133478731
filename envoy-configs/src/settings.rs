//! What an operator chooses for a bootstrap, and the defaults that the standing files have.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use spiffe::TrustDomain;

use crate::{Admin, Api, Callee, Callers, EdgeTls, Families, Host, Identity, KeyKind, Kind, Remote};

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
    /// Or Countersign over the network; then there is no socket.
    pub remote: Option<Remote>,
    /// How secrets come.
    pub api: Api,
    /// With ADS: the file that Envoy reads its clusters from.
    pub clusters: PathBuf,
    /// Where mesh callers come in, over mutual TLS.
    pub inbound: SocketAddr,
    /// Who may come in there.
    pub callers: Callers,
    /// The sidecar's own application.
    pub app: SocketAddr,
    /// Where programs beside this Envoy send their calls, in plain text. On loopback.
    pub outbound: SocketAddr,
    /// Gateway: where callers from outside the mesh come in.
    pub edge: SocketAddr,
    /// Gateway: the certificate for callers from outside, who need none; without it plain HTTP.
    pub edge_tls: Option<EdgeTls>,
    /// On-demand: names that are fetched at the start, so that their first caller need not wait.
    pub prefetch: Vec<String>,
    /// Transparent: where probes ask, in clear.
    pub health: SocketAddr,
    /// Transparent: what it listens on.
    pub families: Families,
    /// Where outgoing calls go: the inbound listeners of the called service.
    pub upstreams: Vec<Host>,
    /// Who must answer there.
    pub callee: Callee,
    /// The server name that is said to the called service, for a passthrough gateway on the way.
    pub server_name: Option<String>,
    /// The keys that it and its mesh peers have, preferred ones first; empty for what Envoy speaks by itself. With
    /// a list, a peer with another key is refused.
    pub keys: Vec<KeyKind>,
    /// Envoy's admin interface. It can shut Envoy down, so never on a public address.
    pub admin: Admin,
    /// The longest that a connection lives, so that a revoked or expired peer goes away. Whole seconds.
    pub connection_age: Duration,
    /// Whether Envoy tells Countersign its counters of certificates, which prove what it really uses.
    pub receipts: Receipts,
}

impl Settings {
    /// The defaults of the standing files, for a member of `trust_domain` that calls `callee`.
    #[must_use]
    pub fn new(kind: Kind, trust_domain: TrustDomain, callee: Callee) -> Self {
        // Ports that let one of each stand on one host.
        let (inbound, outbound, admin) = match kind {
            Kind::Sidecar | Kind::Permissive | Kind::Transparent => (15006, 15001, 15000),
            Kind::Gateway => (15016, 15011, 15010),
            Kind::Passthrough => (15443, 15041, 15040),
            Kind::Egress => (15036, 15031, 15030),
            Kind::OnDemand => (15056, 15051, 15050),
        };
        let upstreams = match (kind, &callee) {
            (_, Callee::Server(server)) => Host { host: server.name.clone(), port: 443 },
            (Kind::Gateway | Kind::OnDemand, _) => Host { host: "127.0.0.1".into(), port: 15006 },
            _ => Host { host: "127.0.0.1".into(), port: 15106 },
        };
        // A name that is asked for is said, too.
        let server_name = match &callee {
            Callee::Named(name) => Some(name.clone()),
            _ => None,
        };
        Self {
            node_id: kind.name().into(),
            service: kind.name().into(),
            trust_domain,
            identity: Identity::Default,
            socket: "/run/countersign/api.sock".into(),
            api: if kind == Kind::OnDemand { Api::Ads } else { Api::Delta },
            clusters: "/etc/envoy/clusters.yaml".into(),
            inbound: (Ipv4Addr::UNSPECIFIED, inbound).into(),
            callers: Callers::Domain,
            app: (Ipv4Addr::LOCALHOST, 8080).into(),
            outbound: (Ipv4Addr::LOCALHOST, outbound).into(),
            edge: (Ipv4Addr::LOCALHOST, 8000).into(),
            remote: None,
            edge_tls: None,
            prefetch: Vec::new(),
            health: (Ipv4Addr::UNSPECIFIED, 15021).into(),
            families: Families::Both,
            upstreams: vec![upstreams],
            callee,
            server_name,
            keys: Vec::new(),
            admin: Admin::Tcp((Ipv4Addr::LOCALHOST, admin).into()),
            connection_age: Duration::from_secs(600),
            receipts: Receipts::Every(Duration::from_secs(1)),
        }
    }
}

/// Whether Envoy proves what it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    /// This often: so long a proof takes. Whole milliseconds.
    Every(Duration),
    /// No: it counts as "acknowledged only". For an Envoy that cannot drop all other statistics, such as 1.36.
    Never,
}
