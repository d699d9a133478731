//! `config check`: what the server would run with, and everything that is wrong with it.

use anyhow::anyhow;
use serde::Serialize;

use super::args::{ConfigArgs, Format};
use super::output::{Printer, escape_lines};
use super::{Ended, EntryCheck, Fault, Hooks, Outcome};
use crate::config::{Environment, Problem, Settings, surroundings};

/// All that was looked at.
#[derive(Serialize)]
struct Report<'r> {
    settings: &'r Settings,
    /// What is wrong around the server, by key, each with what to do.
    findings: Vec<Finding>,
    /// What the server would do otherwise than the settings say.
    notes: Vec<Finding>,
    entries: &'r EntryCheck,
}

#[derive(Serialize)]
struct Finding {
    key: &'static str,
    advice: String,
}

impl From<Problem> for Finding {
    fn from(Problem { key, advice }: Problem) -> Self {
        Self { key, advice }
    }
}

/// Prints the effective configuration, which can be read back, or for machines a report with it; fails with
/// the problems of the directories and of the entries.
pub(super) fn run(
    args: ConfigArgs,
    format: Format,
    hooks: Hooks,
    environment: &Environment,
    out: &mut Printer,
    err: &mut Printer,
) -> Ended {
    let settings = super::settings(args, environment)?;
    let (found, mut notes) = (surroundings::problems(&settings), surroundings::notes(&settings));
    // Of a directory that cannot be read enough is said with that.
    let entries = match found.iter().any(|problem| problem.key == "entries") {
        true => EntryCheck::default(),
        false => (hooks.check_entries)(&settings.entries, &settings.trust_domain),
    };
    notes.extend(entries.open_to_all.iter().map(|path| Problem {
        key: "entries",
        advice: format!("anybody may write to {path}, and give himself identities: chmod o-w"),
    }));
    let mut said: Vec<String> =
        found.iter().map(|problem| format!("{}: {}", problem.key, problem.advice)).collect();
    match format {
        Format::Table => {
            out.structured(&settings, Format::Yaml)?;
            for Problem { key, advice } in &notes {
                err.line(&escape_lines(&format!("note: {key}: {advice}")))?;
            }
        }
        Format::Json | Format::Yaml => {
            let [findings, notes] =
                [found, notes].map(|problems| problems.into_iter().map(Finding::from).collect());
            out.structured(&Report { settings: &settings, findings, notes, entries: &entries }, format)?;
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
