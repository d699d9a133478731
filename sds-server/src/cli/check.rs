//! `config check`: what the server would run with, and everything that is wrong with it.

use anyhow::anyhow;

use super::args::{ConfigArgs, Format};
use super::output::{Printer, escape_lines};
use super::{Ended, Fault, Hooks, Outcome};
use crate::config::Environment;

/// Prints the effective configuration, which can be read back, and fails with the problems of the entries.
pub(super) fn run(args: ConfigArgs, hooks: Hooks, environment: &Environment, out: &mut Printer) -> Ended {
    let settings = super::settings(args, environment)?;
    out.structured(&settings, Format::Yaml)?;
    let found = (hooks.check_entries)(&settings.entries, &settings.trust_domain);
    if found.problems.is_empty() {
        return Ok(Outcome::Well);
    }
    let problems = escape_lines(&found.problems.join("\n"));
    Err(Fault::Usage(anyhow!("the entries are wrong:\n{problems}")))
}
