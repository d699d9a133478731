//! `explain pid`: what a process is to the server, and what it lacks.

use serde_json::{Value, json};

use super::args::Format;
use super::client::Client;
use super::output::{Printer, escape};
use super::{Ended, Outcome};
use crate::admin::{Attested, AttestorState, Explained, Near, WhyNot};

const MATCH_COLUMNS: [&str; 3] = ["spiffe_id", "selectors", "source"];

pub(super) fn pid(client: &Client, pid: u32, format: Format, out: &mut Printer) -> Ended {
    let explained: Explained = client.get(&format!("/v1/explain/pid/{pid}")).map_err(anyhow::Error::from)?;
    match format {
        Format::Table => text(&explained, out)?,
        Format::Json | Format::Yaml => out.structured(&explained, format)?,
    }
    Ok(if explained.matches.is_empty() { Outcome::Finding } else { Outcome::Well })
}

fn text(explained: &Explained, out: &mut Printer) -> anyhow::Result<()> {
    let Explained { pid, selectors, attestors, matches, matches_total, near, near_total, .. } = explained;
    out.line(&format!("process {pid} has {} selectors", selectors.len()))?;
    attestors.iter().try_for_each(|one| attested(one, out))?;
    out.line(&format!("\nit matches {}", count(matches.len(), *matches_total)))?;
    let rows: Vec<Value> = matches.iter().map(|found| json!(found)).collect();
    out.list(&rows, &MATCH_COLUMNS, Format::Table)?;
    let of = match (matches_total, near_total) {
        (0, 0) => format!(", of {} in force", explained.entries_total),
        _ => String::new(),
    };
    out.line(&format!("\nit nearly matches {}{of}", count(near.len(), *near_total)))?;
    near.iter().try_for_each(|entry| nearly(entry, out))
}

fn attested(one: &Attested, out: &mut Printer) -> anyhow::Result<()> {
    let Attested { attestor, state, selectors, why } = one;
    out.line(&format!("{}: {}", escape(attestor), told(*state)))?;
    selectors.iter().try_for_each(|selector| out.line(&format!("  {}", escape(selector))))?;
    why.iter().try_for_each(|why| out.line(&format!("  ! {}", escape(why))))
}

fn told(state: AttestorState) -> &'static str {
    match state {
        AttestorState::Answered => "answered",
        AttestorState::Nothing => "has nothing of it",
        AttestorState::Partly => "in part",
        AttestorState::Failed => "failed, so that its selectors are unknown",
        AttestorState::Late => "late, so that its selectors are unknown",
        AttestorState::Unknown => "does not know of it yet",
        AttestorState::Refused => "does not believe it",
    }
}

fn nearly(entry: &Near, out: &mut Printer) -> anyhow::Result<()> {
    let Near { spiffe_id, why_not, has, source, .. } = entry;
    out.line(&format!("  {} ({})", escape(spiffe_id), escape(source)))?;
    has.iter().try_for_each(|selector| out.line(&format!("    has   {}", escape(selector))))?;
    why_not.iter().try_for_each(|WhyNot { selector, reason }| {
        out.line(&format!("    lacks {}: {}", escape(selector), escape(reason)))
    })
}

fn count(shown: usize, total: usize) -> String {
    match total {
        0 => "no entry".to_owned(),
        1 => "1 entry:".to_owned(),
        _ if shown < total => format!("{total} entries, of which the first {shown}:"),
        _ => format!("{total} entries:"),
    }
}
