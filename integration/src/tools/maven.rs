//! Java programs with libraries from the Maven repository, each known by its hash.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian::run;
use super::{apt, sha256};

/// The program `class` in `source` with the libraries that its `pom.xml` names and whose hashes are in its
/// `jars.sha256`, compiled: to be given arguments. Where there is no Java, Debian's is installed.
///
/// # Errors
/// There is no Java and none can be had, a library is not the one that is known, or it does not compile.
pub(super) fn program(tools: &Path, name: &str, source: &Path, class: &str) -> Result<Command> {
    fs::create_dir_all(tools)?;
    let lock = File::create(tools.join("maven.lock"))?;
    lock.lock().context("wait for another process that fetches")?;
    let home = tools.join("java").join(name);
    let (jars, classes) = (home.join("jars"), home.join("classes"));
    apt::need("javac", &["openjdk-17-jdk-headless"])?;
    let known = fs::read_to_string(source.join("jars.sha256"))?;
    if fs::read_to_string(home.join("done")).ok().as_deref() != Some(&*known) {
        apt::need("mvn", &["maven"])?;
        eprintln!("tools: fetching Java libraries for {name} (22 MB, once)");
        if jars.exists() {
            fs::remove_dir_all(&jars)?;
        }
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "dependency:copy-dependencies"]).arg("-f").arg(source.join("pom.xml"));
        maven.arg(format!("-DoutputDirectory={}", jars.display()));
        run(maven)?;
        check(&jars, &known)?;
        fs::write(home.join("done"), &known)?;
    }
    let path = format!("{}/*:{}", jars.display(), classes.display());
    let mut compile = Command::new("javac");
    compile.args(["-cp", &path, "-d"]).arg(&classes).arg(source.join(format!("{class}.java")));
    run(compile)?;
    let mut java = Command::new("java");
    java.args(["-cp", &path, class]);
    Ok(java)
}

/// That `jars` has the files of `known` (`sha256sum`'s form), and no other.
fn check(jars: &Path, known: &str) -> Result<()> {
    let mut left = fs::read_dir(jars)?.count();
    for line in known.lines() {
        let (hash, name) = line.split_once("  ").context("jars.sha256 is not of sha256sum's form")?;
        let found = sha256(&jars.join(name))?;
        ensure!(found == hash, "{name} has the hash {found}, not {hash}");
        left = left.saturating_sub(1);
    }
    ensure!(left == 0, "{left} libraries came that jars.sha256 does not know");
    Ok(())
}
