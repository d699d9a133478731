//! pkilint, a linter of certificates by others, fetched like Envoy: each package by version and hash.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

const REQUIREMENTS: &str = include_str!("pkilint.txt");
const PROGRAM: &str = include_str!("lint_pairs.py");

/// One thing that pkilint says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Finding {
    /// `ERROR`, `WARNING`, `NOTICE`, `INFO`, …
    pub severity: String,
    /// What is wrong, such as `pkix.invalid_uri_syntax`.
    pub code: String,
    /// More of it, for some.
    #[serde(default)]
    pub message: Option<String>,
    /// Where in the certificate.
    #[serde(default)]
    pub path: String,
}

#[derive(Deserialize)]
struct Checked {
    node_path: String,
    finding_descriptions: Vec<Finding>,
}

/// What pkilint finds in each certificate (DER), and between it and its issuer, the second of each pair, if it is not
/// a root.
///
/// # Errors
/// pkilint cannot be had, or cannot read a certificate.
pub fn lint(pairs: &[(&[u8], Option<&[u8]>)]) -> Result<Vec<Vec<Finding>>> {
    let work = tempfile::tempdir()?;
    let mut python = super::python_with("pkilint", REQUIREMENTS)?;
    python.args(["-c", PROGRAM]);
    for (n, (subject, issuer)) in pairs.iter().enumerate() {
        let write = |what: &str, der: &[u8]| -> Result<PathBuf> {
            let file = work.path().join(format!("{n}-{what}.der"));
            fs::write(&file, der)?;
            Ok(file)
        };
        python.arg(write("subject", subject)?);
        python.arg(issuer.map_or(Ok("-".into()), |issuer| write("issuer", issuer))?);
    }
    let output = python.output().context("start Python")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "pkilint: {}\n{complaint}", output.status);
    let found = |line: &str| -> Result<Vec<Finding>> {
        let checked: Vec<Checked> = serde_json::from_str(line).context("pkilint's answer")?;
        let placed = checked.into_iter().flat_map(|checked| {
            let path = checked.node_path;
            checked.finding_descriptions.into_iter().map(move |found| Finding { path: path.clone(), ..found })
        });
        Ok(placed.collect())
    };
    let found = String::from_utf8(output.stdout)?.lines().map(found).collect::<Result<Vec<_>>>()?;
    ensure!(found.len() == pairs.len(), "pkilint answered for {} of {}", found.len(), pairs.len());
    Ok(found)
}
