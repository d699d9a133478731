//! The command line: words to values, one verb each, and an exit status that scripts can rely on.
//!
//! ```text
//! args → (config) → verb: asks the server over the admin socket, or reads files, or serves → output
//! ```
//!
//! Exit status: 0 done and well, 1 a finding or a failure, 2 wrong usage or configuration. Results go to
//! standard output and everything else to standard error; a reader that goes away ends us quietly. What came
//! from callers is escaped before a terminal sees it. The work itself stands elsewhere: [`Hooks`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use spiffe_bridge::identity::TrustDomain;

use crate::admin::Trail;
use crate::config::{Environment, File, Flags, Settings};

pub mod args;
mod bootstrap;
mod check;
pub mod client;
mod entries;
mod explain;
mod holders;
mod lists;
pub mod output;
mod status;

use args::{Cli, ConfigArgs, Verb};
use output::Printer;

/// What the verbs need and cannot import: the composition root and the library behind it.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    /// Serves until the process should end.
    pub serve: fn(Settings, Init, Listeners) -> anyhow::Result<()>,
    /// Initialises the data directory, and says what was made. Refuses one that is in use.
    pub init: fn(&Settings) -> anyhow::Result<String>,
    /// Reads the entry documents as a server would that never saw them before.
    pub check_entries: fn(&Path, &TrustDomain) -> EntryCheck,
}

/// What `serve` does with a data directory that has never been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// Initialises it.
    Allowed,
    /// Refuses it: a volume that was lost must not become a new root in silence.
    Refused,
}

/// Where `serve` has its listening sockets from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listeners {
    /// It makes those that systemd does not hand over.
    Made,
    /// The running server of its data directory, whose place it takes.
    TakenOver,
}

/// What an entries directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct EntryCheck {
    /// Files that were looked at.
    pub files: usize,
    /// Entries that are in order.
    pub entries: usize,
    /// The other trust domains whose bundles it holds.
    pub trust_domains: Vec<String>,
    /// The profiles that it declares.
    pub profiles: Vec<String>,
    /// What is wrong, each with its file and line.
    pub problems: Vec<String>,
    /// The directory or a file in it, if anybody may write to it.
    pub open_to_all: Option<String>,
}

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Well,
    Finding,
}

/// Whose fault it is that a verb did not end at all.
#[derive(Debug)]
enum Fault {
    /// The command's or the configuration's.
    Usage(anyhow::Error),
    /// Anybody else's.
    Failure(anyhow::Error),
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Failure(error)
    }
}

type Ended = Result<Outcome, Fault>;

/// Runs the process's command line.
#[must_use]
pub fn main(hooks: Hooks) -> ExitCode {
    let (mut out, mut err) = (Printer::stdout(), Printer::to(std::io::stderr()));
    ExitCode::from(run_from(std::env::args_os(), hooks, &Environment::of_process(), &mut out, &mut err))
}

/// Runs a command line, the program's name first, and gives the exit status.
#[must_use]
pub fn run_from(
    args: impl IntoIterator<Item = std::ffi::OsString>,
    hooks: Hooks,
    environment: &Environment,
    out: &mut Printer,
    err: &mut Printer,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render().to_string();
            // A reader of the help that went away is no failure.
            let _ = if error.use_stderr() { err.line(&text) } else { out.line(&text) };
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    match run(cli.verb, hooks, environment, out, err) {
        Ok(Outcome::Well) => 0,
        Ok(Outcome::Finding) => 1,
        Err(Fault::Failure(error)) if output::is_broken_pipe(&error) => 0,
        Err(Fault::Failure(error)) => {
            complain(err, &error);
            1
        }
        Err(Fault::Usage(error)) => {
            complain(err, &error);
            2
        }
    }
}

/// A standard error that was closed is no failure.
fn complain(err: &mut Printer, error: &anyhow::Error) {
    let _ = err.line(&output::escape_lines(&format!("countersign: {error:#}")));
}

fn run(verb: Verb, hooks: Hooks, environment: &Environment, out: &mut Printer, err: &mut Printer) -> Ended {
    match verb {
        Verb::Serve { init, takeover, config } => {
            let settings = settings(config, environment)?;
            let init = if init { Init::Allowed } else { Init::Refused };
            let listeners = if takeover { Listeners::TakenOver } else { Listeners::Made };
            (hooks.serve)(settings, init, listeners)?;
            Ok(Outcome::Well)
        }
        Verb::Init { config } => {
            let done = (hooks.init)(&settings(config, environment)?)?;
            out.line(&done)?;
            Ok(Outcome::Well)
        }
        Verb::Status { server, format } => status::run(&client(server, environment)?, format, out),
        Verb::Streams(args) => streams(args, environment, out, err),
        Verb::Entries(args) => entries::run(args, hooks, environment, out, err),
        Verb::Explain(args::Explain::Pid { pid, server, format }) => {
            explain::pid(&client(server, environment)?, pid, format, out)
        }
        Verb::Bundle { server, format } => lists::bundle(&client(server, environment)?, format, out),
        Verb::Audit { server, from, kind, limit, format } => {
            let trail = Trail { from, kind, limit: limit.into() };
            lists::audit(&client(server, environment)?, &trail, format, out, err)
        }
        Verb::Envoy(args::Envoy::Bootstrap(args)) => bootstrap::run(*args, environment, out),
        Verb::Config(args::ConfigVerb::Check { config, format }) => {
            check::run(config, format, hooks, environment, out, err)
        }
    }
}

fn streams(
    args: args::StreamsArgs,
    environment: &Environment,
    out: &mut Printer,
    err: &mut Printer,
) -> Ended {
    let args::StreamsArgs { verb, server, format, not_acknowledged, not_holding, acknowledged } = args;
    if let Some(args::StreamsVerb::Forget { holder, server, format }) = verb {
        return holders::forget(&client(server, environment)?, &holder, format, out);
    }
    let client = client(server, environment)?;
    match not_holding {
        Some(named) => holders::run(&client, &named, acknowledged, format, out),
        None => lists::streams(&client, format, not_acknowledged, out, err),
    }
}

/// File, flags and defaults, checked.
fn settings(args: ConfigArgs, environment: &Environment) -> Result<Settings, Fault> {
    let file = match &args.config {
        Some(path) => File::read(path).map_err(|error| Fault::Usage(error.into()))?,
        None => File::default(),
    };
    let ConfigArgs { trust_domain, data, entries, socket, .. } = args;
    let flags = Flags { trust_domain, data, entries, socket };
    Settings::resolve(file, flags, environment)
        .map_err(|problems| Fault::Usage(anyhow::Error::from(problems).context("the configuration is wrong")))
}

/// The way to the running server.
fn client(args: args::ServerArgs, environment: &Environment) -> Result<client::Client, Fault> {
    let configured = |path: PathBuf| File::read(&path).map(|file| file.data);
    let from_file = args.config.map(configured).transpose().map_err(|error| Fault::Usage(error.into()))?;
    let data = args.data.or(from_file.flatten());
    let socket = environment
        .admin_socket(data.as_deref())
        .context("no data directory is known: give --data, or COUNTERSIGN_ADMIN")
        .map_err(Fault::Usage)?;
    Ok(client::Client::new(socket))
}
