//! The words of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use spiffe_bridge::roster::HolderKey;

use super::holders;

mod bootstrap;

pub use bootstrap::{BootstrapApi, BootstrapArgs, BootstrapKind, BootstrapPart};

/// Workload identity for Envoy meshes.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, long_version = LONG_VERSION, propagate_version = true, subcommand_required = true)]
#[command(
    after_help = "Exit status: 0 done and well, 1 a finding or a failure, 2 wrong usage or configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve SDS and the Workload API
    Serve {
        /// Initialise a data directory that has never been used
        #[arg(long)]
        init: bool,
        /// Take the place of the running server of this data directory, without a connection refused
        #[arg(long, conflicts_with = "init")]
        takeover: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Initialise a data directory: makes the first root
    Init {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Tell how the server is; 1 if there is something to look at
    Status {
        #[command(flatten)]
        server: ServerArgs,
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
    /// List what is streamed to whom, and what they said to it
    Streams(StreamsArgs),
    /// List the entries in force, check their documents, or have them read again
    Entries(EntriesArgs),
    /// Tell why somebody gets what they get
    #[command(subcommand)]
    Explain(Explain),
    /// Print the trust bundle
    Bundle {
        #[command(flatten)]
        server: ServerArgs,
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: BundleFormat,
    },
    /// Print records of the audit log: who was given what, and what was decided
    Audit {
        #[command(flatten)]
        server: ServerArgs,
        /// From this record on, the oldest first; without it the last ones
        #[arg(long, value_name = "SEQUENCE")]
        from: Option<u64>,
        /// Only records of this kind, such as svid.issued, or of all kinds that begin with it and a dot
        #[arg(long)]
        kind: Option<String>,
        /// How many at the most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
    /// Help with Envoy's configuration
    #[command(subcommand)]
    Envoy(Envoy),
    /// Help with the server's configuration
    #[command(subcommand)]
    Config(ConfigVerb),
}

/// The keys of the configuration that are flags.
#[derive(Debug, Default, Clone, Args)]
pub struct ConfigArgs {
    /// The YAML file with the configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The trust domain, such as example.org
    #[arg(long, value_name = "TD")]
    pub trust_domain: Option<String>,
    /// The directory of keys, store and admin socket
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The directory of entry documents [default: DATA/entries]
    #[arg(long, value_name = "DIR")]
    pub entries: Option<PathBuf>,
    /// The socket of SDS and the Workload API
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Where the running server is found.
#[derive(Debug, Default, Clone, Args)]
pub struct ServerArgs {
    /// The server's data directory [default: that of COUNTERSIGN_ADMIN, or serve's default]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The server's configuration, for its data directory
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For machines
    Json,
    /// For both
    Yaml,
}

/// How the bundle is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum BundleFormat {
    /// The certificates
    #[default]
    Pem,
    /// With trust domain and version
    Json,
    /// The SPIFFE bundle document, with the keys of tokens: what another trust domain is given
    Spiffe,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct StreamsArgs {
    #[command(subcommand)]
    pub verb: Option<StreamsVerb>,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Only what was sent and is not acknowledged; 1 if there is any
    #[arg(long)]
    pub not_acknowledged: bool,
    /// Who does not hold NAME, at this version or a later one, and why; also who is away. 1 if anybody is missing
    #[arg(long, value_name = "NAME[@VERSION]", conflicts_with = "not_acknowledged", value_parser = held)]
    pub not_holding: Option<String>,
    /// With --not-holding: the client's word is enough, its counters need not prove it
    #[arg(long, requires = "not_holding")]
    pub acknowledged: bool,
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum StreamsVerb {
    /// Let a client go that was drained for good and still counts; recorded. Says until when its certificate is
    /// valid; 1 if it is connected or alive
    Forget {
        /// The client, as `holder` names it in --not-holding NAME -o json
        #[arg(value_name = "HOLDER")]
        holder: HolderKey,
        #[command(flatten)]
        server: ServerArgs,
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EntriesArgs {
    #[command(subcommand)]
    pub verb: Option<EntriesVerb>,
    #[command(flatten)]
    pub server: ServerArgs,
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum EntriesVerb {
    /// Check the entry documents without a server
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
    /// Have the server read the entry documents again
    Reload {
        #[command(flatten)]
        server: ServerArgs,
        /// Also withdraw what the brake on mass removal holds back
        #[arg(long)]
        prune: bool,
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub enum Explain {
    /// What a process has, which entries it matches, and what it lacks for others; 1 if it matches none
    Pid {
        /// The process, as the server's host numbers it
        pid: u32,
        #[command(flatten)]
        server: ServerArgs,
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the effective configuration and everything that is wrong with it, its directories and the entries
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub enum Envoy {
    /// Print a bootstrap that speaks mutual TLS with what Countersign serves
    Bootstrap(Box<BootstrapArgs>),
}

/// What `--version` says: ours, and which version we follow of the standards that are not stable yet.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nincubating: WIT-SVID, Broker API and Broker Endpoint, by spiffe/spiffe at 665a28f"
);

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write IP:PORT, such as 127.0.0.1:15006")
}

/// `NAME[@VERSION]`. Of all names only those of tokens have an `@` in them: their audience's.
fn held(text: &str) -> Result<String, &'static str> {
    const ADVICE: &str = "write NAME or NAME@VERSION, with a revision such as 7, or all of <revision>-<hash>";
    let (name, _) = holders::split(text);
    let is_name = !name.is_empty() && (name.starts_with("jwt:") || !name.contains('@'));
    if is_name { Ok(text.to_owned()) } else { Err(ADVICE) }
}
