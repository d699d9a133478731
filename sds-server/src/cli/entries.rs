//! `entries`: listed, checked without a server, and read again.

use std::fmt::Display;
use std::path::Path;

use serde_json::Value;

use super::args::{EntriesArgs, EntriesVerb, Format};
use super::client::Client;
use super::output::{Printer, cell, escape, escape_lines};
use super::{Ended, EntryCheck, Hooks, Outcome};
use crate::admin::{Entries, Rescan, Rescanned};
use crate::config::Environment;

const ENTRY_COLUMNS: [&str; 8] =
    ["spiffe_id", "selectors", "dns_names", "profile", "key_type", "peers", "hint", "source"];
const PROBLEM_COLUMNS: [&str; 4] = ["file", "line", "column", "problem"];

pub(super) fn run(
    args: EntriesArgs,
    hooks: Hooks,
    environment: &Environment,
    out: &mut Printer,
    err: &mut Printer,
) -> Ended {
    match args.verb {
        None => list(&super::client(args.server, environment)?, args.format, out, err),
        Some(EntriesVerb::Check { config, format }) => {
            let settings = super::settings(config, environment)?;
            let found = (hooks.check_entries)(&settings.entries, &settings.trust_domain);
            match format {
                Format::Table => checked(&found, &settings.entries, out)?,
                Format::Json | Format::Yaml => out.structured(&found, format)?,
            }
            Ok(outcome(found.problems.is_empty()))
        }
        Some(EntriesVerb::Reload { server, prune, format }) => {
            reload(&super::client(server, environment)?, Rescan { prune }, format, out)
        }
    }
}

fn checked(found: &EntryCheck, directory: &Path, out: &mut Printer) -> anyhow::Result<()> {
    for problem in &found.problems {
        out.line(&escape_lines(problem))?;
    }
    let domains = match found.trust_domains.as_slice() {
        [] => String::new(),
        [domain] => format!(", and the bundle of {}", escape(domain)),
        domains => format!(", and the bundles of {}", escape(&domains.join(", "))),
    };
    let profiles = match found.profiles.as_slice() {
        [] => String::new(),
        [profile] => format!(", the profile {}", escape(profile)),
        profiles => format!(", the profiles {}", escape(&profiles.join(", "))),
    };
    let directory = escape(&directory.display().to_string());
    let entries = counted(found.entries, "entry", "entries");
    let files = counted(found.files, "file", "files");
    out.line(&format!("{entries} in order{profiles}{domains}, in {files} of {directory}"))
}

fn list(client: &Client, format: Format, out: &mut Printer, err: &mut Printer) -> Ended {
    let found: Entries = client.get("/v1/entries").map_err(anyhow::Error::from)?;
    match format {
        Format::Table => {
            if found.entries.is_empty() {
                err.line("no entries are in force")?;
            }
            out.list(&found.entries, &ENTRY_COLUMNS, format)?;
            problems(&found.problems, out)?;
        }
        Format::Json | Format::Yaml => out.structured(&found, format)?,
    }
    Ok(outcome(found.problems.is_empty()))
}

fn reload(client: &Client, rescan: Rescan, format: Format, out: &mut Printer) -> Ended {
    let done: Rescanned = client.post("/v1/entries/rescan", &rescan).map_err(anyhow::Error::from)?;
    match format {
        Format::Table => reloaded(&done, out)?,
        Format::Json | Format::Yaml => out.structured(&done, format)?,
    }
    Ok(outcome(done.problems.is_empty() && done.held_back == 0))
}

fn reloaded(done: &Rescanned, out: &mut Printer) -> anyhow::Result<()> {
    let Rescanned { added, changed, removed, held_back, problems: found } = done;
    out.line(&format!("{added} added, {changed} changed, {removed} removed"))?;
    if *held_back > 0 {
        // The last entry is held back alone.
        let removals = counted(*held_back, "removal is", "removals are");
        out.line(&format!(
            "{removals} held back, because that is so much of what there is: \
             if it is meant, run `countersign entries reload --prune`"
        ))?;
    }
    problems(found, out)
}

fn problems(problems: &[Value], out: &mut Printer) -> anyhow::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let documents = counted(problems.len(), "document", "documents");
    out.line(&format!("\n{documents} cannot be used; what was accepted before stays:"))?;
    if problems.iter().all(Value::is_object) {
        return out.list(problems, &PROBLEM_COLUMNS, Format::Table);
    }
    problems.iter().try_for_each(|problem| out.line(&cell(Some(problem))))
}

fn counted<T: Display + PartialEq + From<u8>>(count: T, one: &str, several: &str) -> String {
    format!("{count} {}", if count == T::from(1) { one } else { several })
}

fn outcome(is_well: bool) -> Outcome {
    if is_well { Outcome::Well } else { Outcome::Finding }
}
