//! `countersign`: hands the command line its work.

use std::path::Path;
use std::process::ExitCode;

use sds_server::app::{self, Place};
use sds_server::cli::{self, EntryCheck, Hooks, Init, Listeners};
use sds_server::config::Settings;
use sds_server::endpoint::sockets::{Maker, Sockets};
use sds_server::{endpoint, runtime, telemetry};
use spiffe_bridge::identity::TrustDomain;
use spiffe_bridge::registration::check_directory;

/// docs/decisions/0020-allocator.md
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Turns of tasks after which a busy thread looks for I/O: few, as a turn of a busy caller is long.
/// docs/decisions/0019-turns.md
const EVENT_INTERVAL: u32 = 4;

fn main() -> ExitCode {
    cli::main(Hooks { serve, init, check_entries })
}

fn serve(settings: Settings, init: Init, listeners: Listeners) -> anyhow::Result<()> {
    // Before anything secret is read: no core dump, no ptrace by others.
    runtime::harden()?;
    telemetry::logs::init(&settings.log)?;
    telemetry::panics::install();
    let metrics = telemetry::metrics::install()?;
    endpoint::describe();
    app::describe_metrics();
    runtime::slices::short();
    let tokio =
        tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
    let place = match listeners {
        Listeners::Made => Place::Own(Sockets::check(runtime::inherited()?, Maker::Systemd)?),
        Listeners::TakenOver => Place::TakenOver,
    };
    tokio.block_on(app::run(settings, init == Init::Allowed, place, metrics))
}

fn init(settings: &Settings) -> anyhow::Result<String> {
    runtime::harden()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(app::initialise(settings))?;
    Ok(format!("initialised {} for {}", settings.data.display(), settings.trust_domain.as_str()))
}

fn check_entries(path: &Path, trust_domain: &TrustDomain) -> EntryCheck {
    let report = check_directory(path, trust_domain);
    EntryCheck {
        files: report.files,
        entries: report.entries.len(),
        trust_domains: report.trust_domains,
        profiles: report.profiles,
        problems: report.faults.iter().map(ToString::to_string).collect(),
        open_to_all: report.open_to_all,
    }
}
