//! `streams`, `entries` and `bundle`: lists, and the one verb that changes them.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::args::{BundleFormat, EntriesArgs, EntriesVerb, Format};
use super::client::Client;
use super::output::{Printer, cell, escape_lines};
use super::{Ended, Hooks, Outcome};
use crate::admin::{Bundle, Entries, Rescan, Rescanned};
use crate::config::Environment;

/// The columns that people look for first; all others follow.
const STREAM_COLUMNS: [&str; 10] =
    ["connection", "pid", "uid", "node", "protocol", "name", "state", "version", "acked_version", "nack"];
const ENTRY_COLUMNS: [&str; 6] = ["spiffe_id", "selectors", "dns_names", "peers", "hint", "source"];
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
        streams.retain_mut(keep_not_acknowledged);
    }
    match format {
        Format::Table => {
            let rows: Vec<Value> = streams.iter().flat_map(rows).collect();
            out.list(&rows, &STREAM_COLUMNS, format)?;
        }
        Format::Json | Format::Yaml => out.structured(&streams, format)?,
    }
    let is_finding = only_not_acknowledged && !streams.is_empty();
    Ok(if is_finding { Outcome::Finding } else { Outcome::Well })
}

/// Keeps the names of `stream` that something was sent for which is not acknowledged, and tells whether there
/// are any. A name that is not available has nothing to acknowledge.
fn keep_not_acknowledged(stream: &mut Value) -> bool {
    let Some(names) = stream.get_mut("names").and_then(Value::as_array_mut) else {
        return false;
    };
    let settled = [Some("acknowledged"), Some("not_available")];
    names.retain(|name| !settled.contains(&name.get("state").and_then(Value::as_str)));
    !names.is_empty()
}

/// One row for each name of `stream`; one without a name if it has asked for none yet.
fn rows(stream: &Value) -> Vec<Value> {
    let row = |name: Option<&Value>| {
        let of_stream = STREAM_COLUMNS.iter().filter_map(|key| Some((key, stream.get(key)?.clone())));
        let of_name = STREAM_COLUMNS.iter().filter_map(|key| Some((key, name?.get(key)?.clone())));
        let mut row: Map<String, Value> =
            of_stream.chain(of_name).map(|(key, value)| ((*key).to_owned(), value)).collect();
        if let Some(reason) = row.get("nack").and_then(|nack| nack.get("reason")).cloned() {
            row.insert("nack".to_owned(), reason);
        }
        Value::Object(row)
    };
    match stream.get("names").and_then(Value::as_array) {
        Some(names) if !names.is_empty() => names.iter().map(|name| row(Some(name))).collect(),
        _ => vec![row(None)],
    }
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
