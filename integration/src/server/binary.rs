//! Builds the server with the profile of this program, once a process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tools;

/// Where the `countersign` of this source tree is.
///
/// # Errors
/// It does not compile; cargo has said why.
pub fn built() -> Result<&'static Path> {
    static BUILT: Mutex<Option<&'static Path>> = Mutex::new(None);
    let mut built = BUILT.lock().map_err(|_| anyhow::anyhow!("an earlier build panicked"))?;
    if let Some(path) = *built {
        return Ok(path);
    }
    let path: &'static Path = Box::leak(build()?.into_boxed_path());
    *built = Some(path);
    Ok(path)
}

fn build() -> Result<PathBuf> {
    let (dir, profile) = tools::build_dir()?;
    let target = dir.parent().context("the profile's directory has no parent")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Both packages, so that dependencies have the features of the demo's build and are not built again.
    cargo.args(["build", "--quiet", "--package", "sds-server", "--package", "integration"]);
    cargo.args(["--bin", "countersign", "--message-format", "json-render-diagnostics"]);
    cargo.arg("--profile").arg(if profile == "debug" { "dev" } else { &profile });
    cargo.arg("--target-dir").arg(target).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = cargo.stderr(Stdio::inherit()).output().context("start cargo")?;
    ensure!(output.status.success(), "countersign does not build: {}", output.status);
    String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message.get("executable").and_then(Value::as_str).map(PathBuf::from))
        .find(|path| path.ends_with("countersign"))
        .context("cargo named no countersign")
}
