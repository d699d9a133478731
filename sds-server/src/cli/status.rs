//! `status`: how the server is, and what to do about it.

use serde_json::Value;

use super::args::Format;
use super::client::Client;
use super::output::{Printer, cell, escape};
use super::{Ended, Outcome};
use crate::admin::{State, Status};

pub(super) fn run(client: &Client, format: Format, out: &mut Printer) -> Ended {
    let status: Status = client.get("/v1/status").map_err(anyhow::Error::from)?;
    match format {
        Format::Table => out.line(&text(&status))?,
        Format::Json | Format::Yaml => out.structured(&status, format)?,
    }
    let is_well = status.state == State::Ready && status.findings.is_empty();
    Ok(if is_well { Outcome::Well } else { Outcome::Finding })
}

fn text(status: &Status) -> String {
    let state = match status.state {
        State::Starting => "starting",
        State::Ready => "ready",
        State::Draining => "draining",
    };
    let (domain, version) = (escape(&status.trust_domain), escape(&status.version));
    let mut lines = vec![format!("countersign {version}: {domain} is {state}")];
    if !status.pending.is_empty() {
        lines.push(format!("waiting for {}", escape(&status.pending.join(", "))));
    }
    for (area, facts) in &status.details {
        lines.push(String::new());
        match facts {
            Value::Object(facts) => {
                lines.push(escape(area).replace('_', " "));
                let width = facts.keys().map(|key| key.chars().count()).max().unwrap_or(0);
                for (key, value) in facts {
                    let key = escape(key).replace('_', " ");
                    lines.push(format!("  {key:width$}  {}", cell(Some(value))));
                }
            }
            value => lines.push(format!("{}: {}", escape(area), cell(Some(value)))),
        }
    }
    lines.push(String::new());
    for finding in &status.findings {
        lines.push(format!("! {}", escape(&finding.what)));
        lines.push(format!("  → {}", escape(&finding.advice)));
    }
    if status.findings.is_empty() {
        lines.push("nothing to look at".to_owned());
    }
    lines.join("\n")
}
