//! `streams`, `entries` and `bundle`: lists, and the one verb that changes them.

use serde::Deserialize;
use serde_json::Value;

use super::args::{BundleFormat, EntriesArgs, EntriesVerb, Format};
use super::client::Client;
use super::output::{Printer, cell, escape_lines};
use super::{Ended, Hooks, Outcome};
use crate::admin::{Bundle, Entries, Rescan, Rescanned};
use crate::config::Environment;

/// The columns that people look for first; all others follow.
const STREAM_COLUMNS: [&str; 10] =
    ["connection", "pid", "uid", "node", "protocol", "name", "sent", "acknowledged", "state", "nack"];
const ENTRY_COLUMNS: [&str; 6] = ["spiffe_id", "selectors", "dns_names", "peers", "hint", "file"];
const PROBLEM_COLUMNS: [&str; 4] = ["file", "line", "column", "problem"];

pub(super) fn streams(
    client: &Client,
    format: Format,
    only_not_acknowledged: bool,
    out: &mut Printer,
) -> Ended {
    #[derive(Deserialize)]
    struct Streams {
        streams: Vec<Value>,
    }
    let Streams { mut streams } = client.get("/v1/streams").map_err(anyhow::Error::from)?;
    if only_not_acknowledged {
        streams.retain(|row| is_sent(row) && row.get("sent") != row.get("acknowledged"));
    }
    out.list(&streams, &STREAM_COLUMNS, format)?;
    let is_finding = only_not_acknowledged && !streams.is_empty();
    Ok(if is_finding { Outcome::Finding } else { Outcome::Well })
}

fn is_sent(row: &Value) -> bool {
    row.get("sent").is_some_and(|sent| !sent.is_null())
}

pub(super) fn entries(
    args: EntriesArgs,
    hooks: Hooks,
    environment: &Environment,
    out: &mut Printer,
) -> Ended {
    match args.verb {
        None => list(&super::client(args.server, environment)?, args.format, out),
        Some(EntriesVerb::Check { config }) => {
            let settings = super::settings(config, environment)?;
            let found = (hooks.check_entries)(&settings.entries, &settings.trust_domain);
            for problem in &found.problems {
                out.line(&escape_lines(problem))?;
            }
            let directory = settings.entries.display();
            out.line(&format!(
                "{} entries in order, in {} files of {directory}",
                found.entries, found.files
            ))?;
            Ok(outcome(found.problems.is_empty()))
        }
        Some(EntriesVerb::Reload { server, prune }) => {
            reload(&super::client(server, environment)?, Rescan { prune }, out)
        }
    }
}

fn list(client: &Client, format: Format, out: &mut Printer) -> Ended {
    let found: Entries = client.get("/v1/entries").map_err(anyhow::Error::from)?;
    match format {
        Format::Table => {
            out.list(&found.entries, &ENTRY_COLUMNS, format)?;
            problems(&found.problems, out)?;
        }
        Format::Json | Format::Yaml => out.structured(&found, format)?,
    }
    Ok(outcome(found.problems.is_empty()))
}

fn reload(client: &Client, rescan: Rescan, out: &mut Printer) -> Ended {
    let done: Rescanned = client.post("/v1/entries/rescan", &rescan).map_err(anyhow::Error::from)?;
    let Rescanned { added, changed, removed, held_back, problems: found } = done;
    out.line(&format!("{added} added, {changed} changed, {removed} removed"))?;
    if held_back > 0 {
        out.line(&format!(
            "{held_back} removals are held back, because they are so many: \
             if they are meant, run `countersign entries reload --prune`"
        ))?;
    }
    problems(&found, out)?;
    Ok(outcome(found.is_empty() && held_back == 0))
}

fn problems(problems: &[Value], out: &mut Printer) -> anyhow::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    out.line(&format!("\n{} documents cannot be used; what they held before stays:", problems.len()))?;
    if problems.iter().all(Value::is_object) {
        return out.list(problems, &PROBLEM_COLUMNS, Format::Table);
    }
    problems.iter().try_for_each(|problem| out.line(&cell(Some(problem))))
}

pub(super) fn bundle(client: &Client, format: BundleFormat, out: &mut Printer) -> Ended {
    let bundle: Bundle = client.get("/v1/bundle").map_err(anyhow::Error::from)?;
    match format {
        BundleFormat::Pem => out.line(&bundle.pem)?,
        BundleFormat::Json => out.structured(&bundle, Format::Json)?,
    }
    Ok(Outcome::Well)
}

fn outcome(is_well: bool) -> Outcome {
    if is_well { Outcome::Well } else { Outcome::Finding }
}
