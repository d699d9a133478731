//! The words of `envoy bootstrap`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use spiffe_bridge::keys::KeyType;

use super::{ConfigArgs, address};

/// What an Envoy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BootstrapKind {
    /// Beside one application
    Sidecar,
    /// The same, but callers in clear get in too and are counted: for a migration
    Permissive,
    /// The same, with the application's connections redirected by the kernel
    Transparent,
    /// At the edge of the mesh
    Gateway,
    /// Passes TLS on unopened, by the server name that the caller says: no --identity, --peer, --api, --remote here
    Passthrough,
    /// From the mesh to one server outside it
    Egress,
    /// One for many identities, each fetched when a caller asks for its DNS name
    OnDemand,
}

/// How secrets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BootstrapApi {
    /// Incremental, a stream a secret
    Delta,
    /// State of the world, a stream a secret
    Sotw,
    /// Aggregated and incremental: one stream for all
    Ads,
}

/// Which file of a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BootstrapPart {
    /// What Envoy is started with
    Bootstrap,
    /// With --api ads: what it reads its clusters from
    Clusters,
}

#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("callee")
        .args(["upstream_id", "upstream_name", "upstream_domain", "upstream_server", "routes"])
        .required(true)
))]
pub struct BootstrapArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[arg(long, value_enum)]
    pub kind: BootstrapKind,
    /// The service that this Envoy belongs to (node.cluster)
    #[arg(long, value_name = "NAME")]
    pub service: String,
    /// Names this Envoy in `streams` (node.id) [default: the service]
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,
    /// The SPIFFE ID that must answer outgoing calls; of another trust domain too, if a TrustDomain document
    /// brings its roots
    #[arg(long, value_name = "ID")]
    pub upstream_id: Option<String>,
    /// Or: whoever has this DNS name in its entry, and this service among its peers
    #[arg(long, value_name = "DNS")]
    pub upstream_name: Option<String>,
    /// Or: anybody of the trust domain, for calls to many services
    #[arg(long)]
    pub upstream_domain: bool,
    /// Or: the server outside the mesh that has this DNS name in its certificate. The only one for egress; not for
    /// transparent, passthrough, on-demand
    #[arg(long, value_name = "DNS")]
    pub upstream_server: Option<String>,
    /// The PEM file of the roots that such a server is checked against
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub upstream_roots: PathBuf,
    /// Show such a server the own certificate
    #[arg(long)]
    pub show_certificate: bool,
    /// Passthrough: where TLS for this server name goes; repeat it for several
    #[arg(long = "route", value_name = "DNS=HOST:PORT")]
    pub routes: Vec<String>,
    /// An address of the called service; repeat it for several. Not for transparent, passthrough [default:
    /// 127.0.0.1:15106; gateway and on-demand 127.0.0.1:15006; port 443 of --upstream-server]
    #[arg(long = "upstream", value_name = "HOST:PORT")]
    pub upstreams: Vec<String>,
    /// Sidecar, permissive, transparent, gateway: say this server name, for a passthrough gateway on the way
    /// [default: --upstream-name]
    #[arg(long, value_name = "DNS")]
    pub server_name: Option<String>,
    /// Countersign over the network, instead of its socket: the address of its remote.listen
    #[arg(long, value_name = "HOST:PORT", requires_all = ["remote_cert", "remote_key", "remote_ca"])]
    pub remote: Option<String>,
    /// The certificate chain that this Envoy shows there, of a CA of remote.client_ca
    #[arg(long, value_name = "FILE", requires = "remote")]
    pub remote_cert: Option<PathBuf>,
    /// And its key
    #[arg(long, value_name = "FILE", requires = "remote")]
    pub remote_key: Option<PathBuf>,
    /// The roots of the server, as `countersign bundle` prints them
    #[arg(long, value_name = "FILE", requires = "remote")]
    pub remote_ca: Option<PathBuf>,
    /// Its own SPIFFE ID [default: the caller's first identity]
    #[arg(long, value_name = "ID")]
    pub identity: Option<String>,
    /// A SPIFFE ID that may call; repeat it for several [default: all of the trust domain]
    #[arg(long = "peer", value_name = "ID")]
    pub peers: Vec<String>,
    /// Or: those whom the entries of this service list as its peers, as they change
    #[arg(long, conflicts_with = "peers")]
    pub peers_from_entries: bool,
    /// A type of key that it or its mesh peers have, its own first; repeat it for all of them: no other is spoken
    /// then. Needed for ed25519 and ml-dsa [default: EC and RSA]
    #[arg(long = "key-type", value_name = "TYPE")]
    pub key_types: Vec<KeyType>,
    /// Where mesh callers come in [default: 0.0.0.0:15006; gateway port 15016, passthrough 15443, egress 15036,
    /// on-demand 15056]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub inbound: Option<SocketAddr>,
    /// Sidecar, permissive: the application [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub app: Option<SocketAddr>,
    /// Sidecar, permissive, transparent, egress: where programs beside this Envoy send their calls, in clear, so on
    /// loopback [default: 127.0.0.1:15001; egress port 15031]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub outbound: Option<SocketAddr>,
    /// Gateway: where callers from outside come in; on loopback unless it has a certificate [default:
    /// 127.0.0.1:8000]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub edge: Option<SocketAddr>,
    /// Gateway: the certificate chain for them
    #[arg(long, value_name = "FILE", requires = "edge_key")]
    pub edge_certificate: Option<PathBuf>,
    /// And its key
    #[arg(long, value_name = "FILE", requires = "edge_certificate")]
    pub edge_key: Option<PathBuf>,
    /// Or Countersign's own certificate for them: that of this DNS name of the gateway's entry
    #[arg(long, value_name = "DNS", conflicts_with = "edge_certificate")]
    pub edge_name: Option<String>,
    /// On-demand: fetch the certificate of this DNS name at the start; repeat it for several
    #[arg(long, value_name = "DNS")]
    pub prefetch: Vec<String>,
    /// Transparent: where probes ask /healthz, in clear [default: 0.0.0.0:15021]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub health: Option<SocketAddr>,
    /// Transparent: do not listen on IPv6; only for a kernel without it
    #[arg(long)]
    pub ipv4_only: bool,
    /// Envoy's admin interface: a loopback address, or an absolute path for a Unix socket [default:
    /// 127.0.0.1:15000; gateway port 15010, passthrough 15040, egress 15030, on-demand 15050]
    #[arg(long, value_name = "ADDR|PATH")]
    pub admin: Option<String>,
    /// How secrets come [default: delta, or ads for on-demand]
    #[arg(long, value_enum)]
    pub api: Option<BootstrapApi>,
    /// Do not have Envoy prove what it uses; for an Envoy before 1.40, which may not know how to
    #[arg(long)]
    pub no_receipts: bool,
    /// With --api ads: the file that Envoy reads its clusters from [default: /etc/envoy/clusters.yaml]
    #[arg(long, value_name = "FILE")]
    pub clusters: Option<PathBuf>,
    /// Which of the two files of --api ads to print
    #[arg(long, value_enum, default_value = "bootstrap")]
    pub part: BootstrapPart,
    /// Write there instead of to standard output
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub output: Option<PathBuf>,
}
