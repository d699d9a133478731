//! The demo: who talks to whom under which identity, who does not get in, and a renewal under load.
//!
//! ```text
//! terminal   what is said, and how      programs   the two plain programs, processes of their own
//! steps      what is shown to hold
//! ```

mod programs;
mod steps;
mod terminal;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::mesh::{Mesh, Plan, Pool};
use crate::seats::Seats;
use crate::server::Options;
use crate::tools::Release;
use programs::Programs;
use terminal::Terminal;

const USAGE: &str = "usage: cargo demo [-- --check]   (--check: unattended, exit status 0 if all holds)";

/// Renewed at half of it, so that a watcher need not wait long.
const LEAF_LIFETIME: &str = "16s";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attendance {
    Watched,
    Unattended,
}

/// The demo with the arguments behind its name: 0 all holds, 1 something does not, 2 wrong usage.
#[must_use]
pub fn run(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(async {
        match arguments.as_slice() {
            [] => show(Attendance::Watched).await,
            ["--check"] => show(Attendance::Unattended).await,
            // The demo's own programs: this binary again, as another process and another user.
            [programs::ANSWER, listen] => programs::answer(listen).await.map(|()| true),
            [programs::CALL, target] => programs::call(target).await.map(|()| true),
            _ => {
                eprintln!("{USAGE}");
                std::process::exit(2);
            }
        }
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("demo: {error:#}");
    ExitCode::FAILURE
}

/// Whether all holds.
async fn show(attendance: Attendance) -> Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = play(attendance) => result,
        // Leaving here drops everything that was started.
        _ = interrupt.recv() => end(attendance),
        _ = terminate.recv() => end(attendance),
    }
}

fn end(attendance: Attendance) -> Result<bool> {
    if attendance == Attendance::Unattended {
        bail!("interrupted");
    }
    println!("\nall of it stopped and removed");
    Ok(true)
}

async fn play(attendance: Attendance) -> Result<bool> {
    let terminal = Terminal::new();
    let start = Instant::now();
    println!("Countersign demo: two plain programs, each behind a real Envoy, all on 127.0.0.1\n");
    Release::default().envoy()?;
    let server = Options { leaf_lifetime: Some(LEAF_LIFETIME.into()), ..Options::default() };
    let mesh = Mesh::start(&Plan { server, pool: Pool::HandshakeEach, ..Plan::default() }).await?;
    let mut programs = Programs::start(&mesh)?;
    cast(&terminal, &mesh, &programs);

    let held = steps::all(&terminal, &mesh, &mut programs).await?;
    let all = held.iter().all(|holds| *holds);
    let count = held.iter().filter(|holds| **holds).count();
    terminal.result(all, &format!("{count} of {} hold, {:.1} s", held.len(), start.elapsed().as_secs_f32()));
    if !all || attendance == Attendance::Unattended {
        return Ok(all);
    }
    println!("\nIt goes on. In another terminal:");
    println!("  curl http://{}/      # web's way to api: what api's program sees", mesh.calls);
    println!("  curl -k https://{}/  # a stranger at api's door: refused", mesh.inbound);
    println!("  {}  # who holds what", mesh.server.cli_line("streams"));
    println!("Ctrl-C stops and removes all of it.");
    std::future::pending().await
}

/// Who is who.
fn cast(terminal: &Terminal, mesh: &Mesh, programs: &Programs) {
    let told_apart = match mesh.seats {
        Seats::Users => "by user",
        Seats::Programs => "by program path: without root all run as one user",
    };
    println!("The server tells its callers apart {told_apart}; nothing secret was given to them.");
    terminal.row("web", &format!("program {} -> Envoy, {}", programs.web_as, mesh.web_seat.selector));
    terminal.row("", &format!("gets {}", mesh.web_id));
    terminal.row("api", &format!("program {} <- Envoy, {}", programs.api_as, mesh.api_seat.selector));
    terminal.row("", &format!("gets {}", mesh.api_id));
    println!();
}
