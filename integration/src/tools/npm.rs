//! Programs for Node.js with libraries from the npm registry, each known by its hash.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use super::debian::run;

/// The program `script` in `source` with the libraries of its `package-lock.json`, which has a hash for each: to be given
/// arguments. Where there is no Node.js, Debian's is installed.
///
/// # Errors
/// There is no Node.js and none can be had, or a library is not the one that is known.
pub(super) fn program(tools: &Path, name: &str, source: &Path, script: &str) -> Result<Command> {
    let home = tools.join("node").join(name);
    fs::create_dir_all(&home)?;
    let lock = File::create(tools.join("node.lock"))?;
    lock.lock().context("wait for another process that fetches")?;
    apt::need("node", &["nodejs"])?;
    let known = fs::read_to_string(source.join("package-lock.json"))?;
    if fs::read_to_string(home.join("done")).ok().as_deref() != Some(&*known) {
        apt::need("npm", &["npm"])?;
        eprintln!("tools: fetching Node.js libraries for {name} (14 MB, once)");
        fs::copy(source.join("package.json"), home.join("package.json"))?;
        fs::write(home.join("package-lock.json"), &known)?;
        let mut npm = Command::new("npm");
        // What a package would like to run when it is installed is not run.
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&home);
        run(npm)?;
        fs::write(home.join("done"), &known)?;
    }
    let mut node = Command::new("node");
    node.env("NODE_PATH", home.join("node_modules")).arg(source.join(script));
    Ok(node)
}
