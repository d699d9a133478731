//! `explain pid`: what a process is to the server, and what it lacks.

use serde_json::{Value, json};

use super::args::Format;
use super::client::Client;
use super::output::{Printer, escape};
use super::{Ended, Outcome};
use crate::admin::Explained;

const MATCH_COLUMNS: [&str; 3] = ["spiffe_id", "selectors", "source"];
const NEAR_COLUMNS: [&str; 5] = ["spiffe_id", "missing", "instead", "has", "source"];

pub(super) fn pid(client: &Client, pid: u32, format: Format, out: &mut Printer) -> Ended {
    let explained: Explained = client.get(&format!("/v1/explain/pid/{pid}")).map_err(anyhow::Error::from)?;
    match format {
        Format::Table => text(&explained, out)?,
        Format::Json | Format::Yaml => out.structured(&explained, format)?,
    }
    Ok(if explained.matches.is_empty() { Outcome::Finding } else { Outcome::Well })
}

fn text(explained: &Explained, out: &mut Printer) -> anyhow::Result<()> {
    let Explained { pid, selectors, unseen, matches, matches_total, near, near_total } = explained;
    out.line(&format!("process {pid} has {} selectors", selectors.len()))?;
    selectors.iter().try_for_each(|selector| out.line(&format!("  {}", escape(selector))))?;
    unseen.iter().try_for_each(|reason| out.line(&format!("! not seen: {}", escape(reason))))?;
    out.line(&format!("\nit matches {}", count(matches.len(), *matches_total)))?;
    let rows: Vec<Value> = matches.iter().map(|found| json!(found)).collect();
    out.list(&rows, &MATCH_COLUMNS, Format::Table)?;
    out.line(&format!("\nit nearly matches {}", count(near.len(), *near_total)))?;
    let rows: Vec<Value> = near.iter().map(|found| json!(found)).collect();
    out.list(&rows, &NEAR_COLUMNS, Format::Table)
}

fn count(shown: usize, total: usize) -> String {
    match total {
        0 => "no entry".to_owned(),
        1 => "1 entry:".to_owned(),
        _ if shown < total => format!("{total} entries, of which the first {shown}:"),
        _ => format!("{total} entries:"),
    }
}
