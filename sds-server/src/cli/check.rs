//! `config check`: what the server would run with, and everything that is wrong with it.

use anyhow::anyhow;
use serde::Serialize;

use super::args::{ConfigArgs, Format};
use super::output::{Printer, escape_lines};
use super::{Ended, EntryCheck, Fault, Hooks, Outcome};
use crate::config::{Environment, Settings, surroundings};

/// All that was looked at.
#[derive(Serialize)]
struct Report<'r> {
    settings: &'r Settings,
    /// What is wrong around the server, by key, each with what to do.
    findings: Vec<Finding>,
    entries: &'r EntryCheck,
}

#[derive(Serialize)]
struct Finding {
    key: &'static str,
    advice: String,
}

/// Prints the effective configuration, which can be read back, or for machines a report with it; fails with
/// the problems of the directories and of the entries.
pub(super) fn run(
    args: ConfigArgs,
    format: Format,
    hooks: Hooks,
    environment: &Environment,
    out: &mut Printer,
) -> Ended {
    let settings = super::settings(args, environment)?;
    let entries = (hooks.check_entries)(&settings.entries, &settings.trust_domain);
    let found = surroundings::problems(&settings);
    let mut said: Vec<String> =
        found.iter().map(|problem| format!("{}: {}", problem.key, problem.advice)).collect();
    match format {
        Format::Table => out.structured(&settings, Format::Yaml)?,
        Format::Json | Format::Yaml => {
            let findings = found
                .into_iter()
                .map(|problem| Finding { key: problem.key, advice: problem.advice })
                .collect();
            out.structured(&Report { settings: &settings, findings, entries: &entries }, format)?;
        }
    }
    if !entries.problems.is_empty() {
        said.push("the entries are wrong:".to_owned());
        said.extend(entries.problems);
    }
    if said.is_empty() {
        return Ok(Outcome::Well);
    }
    Err(Fault::Usage(anyhow!("{}", escape_lines(&said.join("\n")))))
}
