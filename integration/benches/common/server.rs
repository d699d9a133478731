//! The `countersign` binary in release, on a real disk, in a directory of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::disk;

/// What the bench changes: limits far off, so that the machine's are met first.
const CONFIG: &str = "\
limits:
  connections: 20000
  connections_per_uid: 20000
  first_request: 60s
";

pub struct Server {
    child: Child,
    directory: TempDir,
}

impl Server {
    /// Builds it if need be, starts it and waits for `ready`.
    pub fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// The same with more of the configuration, told the directory of its files.
    pub fn start_with(more: impl FnOnce(&Path) -> String) -> Self {
        let binary = binary();
        let directory = disk::directory();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("entries")).unwrap();
        fs::write(path("config.yaml"), CONFIG.to_owned() + &more(directory.path())).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let mut command = Command::new(binary);
        command.args(["serve", "--init", "--trust-domain", "bench.test"]);
        for (flag, name) in [
            ("--data", "data"),
            ("--entries", "entries"),
            ("--socket", "api.sock"),
            ("--config", "config.yaml"),
        ] {
            command.arg(flag).arg(path(name));
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let ready = output.lines().map_while(Result::ok).any(|line| line == "ready");
        let server = Self { child, directory };
        assert!(ready, "the server did not become ready:\n{}", server.log());
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// The roots, in PEM.
    pub async fn roots(&self) -> String {
        let answer =
            integration::http::get_unix(&self.data().join("admin.sock"), "/v1/bundle").await.unwrap();
        let bundle: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        bundle["pem"].as_str().unwrap().to_owned()
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        log.get(from..).unwrap_or(&log).to_owned()
    }

    /// Gives `spiffe://bench.test/NAME` to the users `uids`, with these DNS names; one file a user.
    pub fn entry(&self, name: &str, uid: u32, dns_names: &[String]) {
        let mut text =
            format!("kind: Workload\nspiffe_id: spiffe://bench.test/{name}\nselectors: [unix:uid:{uid}]\n");
        if !dns_names.is_empty() {
            text += &format!("dns_names: [{}]\n", dns_names.join(", "));
        }
        self.document(name, &text);
    }

    /// Writes an entry file.
    pub fn document(&self, name: &str, text: &str) {
        // Renamed into place, as a careful operator's tools do: the server never reads half of it.
        let half = self.directory.path().join("half");
        fs::write(&half, text).unwrap();
        fs::rename(half, self.file(name)).unwrap();
    }

    /// Gives `count` entries to somebody who never comes, in one file.
    pub fn others(&self, count: usize) {
        let entry = |n| {
            format!("kind: Workload\nspiffe_id: spiffe://bench.test/other/{n}\nselectors: [unix:uid:77]\n")
        };
        let text = (0..count).map(entry).collect::<Vec<_>>().join("---\n");
        self.document("others", &text);
    }

    pub fn remove_entry(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("entries").join(format!("{}.yaml", name.replace('/', "-")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the server's log\n{}", self.log());
        }
        // As an operator would, and so that a profiler around it writes what it has.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| rustix::process::kill_process(pid, Signal::TERM));
        for _ in 0..600 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `COUNTERSIGN_BIN`, or the one built here beside this bench.
fn binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("COUNTERSIGN_BIN") {
        return binary.into();
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--package", "sds-server", "--bin", "countersign"]);
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(built.success(), "countersign cannot be built");
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("countersign")
}
