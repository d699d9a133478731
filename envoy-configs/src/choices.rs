//! The words of the settings: each choice an operator has, and what it means.

use std::net::SocketAddr;
use std::path::PathBuf;

use spiffe::SpiffeId;

/// Which Envoy the bootstrap is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Beside one application: its calls go out, and its callers come in, over mutual TLS.
    Sidecar,
    /// The same while a mesh grows: callers in clear get in too, and are counted.
    Permissive,
    /// A sidecar to which the kernel redirects the application's connections.
    Transparent,
    /// At the edge of the mesh: plain or TLS callers from outside reach a service inside.
    Gateway,
    /// Passes TLS on unopened, by the server name that the caller says.
    Passthrough,
    /// Callers of the mesh, and programs beside it, reach one server outside, over ordinary TLS.
    Egress,
    /// One for many identities, each fetched when a caller asks for its name. By ADS only.
    OnDemand,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Sidecar,
        Self::Permissive,
        Self::Transparent,
        Self::Gateway,
        Self::Passthrough,
        Self::Egress,
        Self::OnDemand,
    ];

    /// Its name: that of its standing file, and of the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Permissive => "permissive",
            Self::Transparent => "transparent",
            Self::Gateway => "gateway",
            Self::Passthrough => "passthrough",
            Self::Egress => "egress",
            Self::OnDemand => "on-demand",
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
    /// Everybody of the own trust domain: where calls go to many services, by their addresses.
    Domain,
    /// A server outside the mesh.
    Server(Server),
    /// Passthrough only: whoever stands there proves itself to the caller.
    ByServerName(Vec<Route>),
}

/// A server that knows nothing of SPIFFE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its DNS name: asked for (SNI), and to stand in its certificate.
    pub name: String,
    /// The PEM file of the roots that it is checked against.
    pub roots: PathBuf,
    /// What it is shown of us.
    pub shown: Shown,
}

/// What a server outside the mesh is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// No certificate.
    Nothing,
    /// The own SVID: for servers that know this trust domain's roots.
    Svid,
}

/// Where a passthrough gateway sends connections for one server name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The server name, a DNS name in lower case.
    pub name: String,
    /// At least one.
    pub hosts: Vec<Host>,
}

/// How secrets come from Countersign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `DeltaSecrets`, a stream a secret: can say "no such secret", so that Envoy starts without waiting.
    Delta,
    /// `StreamSecrets`: state of the world, a stream a secret.
    Sotw,
    /// The aggregated service, incremental: one stream for all. The clusters then stand in a file of their own.
    Ads,
}

/// The addresses that a transparent sidecar listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6: what is redirected of one only is the way past mutual TLS by the other.
    Both,
    /// IPv4, where the kernel has no IPv6: Envoy does not start if it cannot listen.
    Ipv4,
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

/// The edge's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EdgeTls {
    /// Files of a public CA, which Envoy watches.
    Files { certificate_chain: PathBuf, private_key: PathBuf },
    /// Countersign's, for callers that were given its roots: that of the own identity whose entry has this DNS name.
    Named(String),
}

/// Countersign over the network. The files are the operator's, and not of Countersign's making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Where its door is: `remote.listen` of its configuration.
    pub host: Host,
    /// The certificate that opens the door, of a CA of `remote.client_ca`.
    pub certificate_chain: PathBuf,
    pub private_key: PathBuf,
    /// The roots of the server's own trust domain, as `countersign bundle` prints them.
    pub roots: PathBuf,
}
