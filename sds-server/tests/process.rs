//! The process itself: what only the real program can show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");
const SOON: Duration = Duration::from_secs(30);

/// Ends with its test, whatever comes of that.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn is_well(data: &Path) -> bool {
    let mut status = Command::new(PROGRAM);
    status.args(["status", "--data"]).arg(data).stdout(Stdio::null()).stderr(Stdio::null());
    status.status().unwrap().success()
}

/// A server with its files in `directory`, once all is well.
fn start(directory: &Path) -> Running {
    let (data, entries) = (directory.join("data"), directory.join("entries"));
    std::fs::create_dir(&entries).unwrap();
    let mut serve = Command::new(PROGRAM);
    serve.args(["serve", "--init", "--trust-domain", "example.org", "--data"]).arg(&data);
    serve.arg("--entries").arg(&entries).arg("--socket").arg(directory.join("s"));
    let server = Running(serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let by = Instant::now() + SOON;
    while !is_well(&data) {
        assert!(Instant::now() < by, "it does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

impl Running {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg("-s").arg(name).arg(self.0.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

#[test]
fn signals_without_a_meaning_do_not_end_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path());
    for name in ["USR1", "USR2", "ALRM", "PIPE", "HUP"] {
        server.signal(name);
        assert!(is_well(&directory.path().join("data")), "after SIG{name}");
        assert_eq!(server.0.try_wait().unwrap(), None, "after SIG{name}");
    }
    // Nor does somebody who is connected and asks nothing hold up its end for the 5 s of a request's head.
    let _idle = std::os::unix::net::UnixStream::connect(directory.path().join("data/admin.sock")).unwrap();
    assert!(is_well(&directory.path().join("data")));
    let asked = Instant::now();
    server.signal("TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[test]
fn a_process_is_explained_by_the_running_server() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let data = directory.path().join("data");
    let own = std::process::id().to_string();
    let path = std::env::current_exe().unwrap();
    let text = format!(
        "kind: Workload\nspiffe_id: spiffe://example.org/test\nselectors: ['unix:path:{0}']\n---\n\
         kind: Workload\nspiffe_id: spiffe://example.org/near\n\
         selectors: ['unix:path:{0}', 'unix:uid:3999999999']\n",
        path.display()
    );
    std::fs::write(directory.path().join("entries/test.yaml"), text).unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(PROGRAM).args(args).arg("--data").arg(&data).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["entries", "reload"]).0, Some(0));
    let (status, said) = run(&["explain", "pid", &own]);
    assert_eq!(status, Some(0), "{said}");
    for expected in ["it matches 1 entry:\n", "spiffe://example.org/test", "it nearly matches 1 entry:\n"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(
        said.lines().any(|line| line.starts_with("    lacks unix:uid:3999999999: it has unix:uid:")),
        "{said}"
    );
    drop(server);
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let entries = directory.path().join("entries");
    std::fs::create_dir(&entries).unwrap();
    // A file that is at fault, so that there is something to log from the first moment on.
    std::fs::write(entries.join("web.yaml"), "kind: [\n").unwrap();
    let mut serve = Command::new(PROGRAM);
    serve.args(["serve", "--init", "--trust-domain", "example.org", "--data"]).arg(&data);
    serve.arg("--entries").arg(&entries).arg("--socket").arg(directory.path().join("s"));
    let mut server = Running(serve.stdout(full()).stderr(full()).spawn().unwrap());

    let admin = data.join("admin.sock");
    let by = Instant::now() + SOON;
    while !admin.exists() && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::write(entries.join("web.yaml"), "").unwrap();
    while !is_well(&data) && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.0.try_wait().unwrap(), None, "it goes on");
    assert!(is_well(&data));

    let term = Command::new("kill").arg(server.0.id().to_string()).status().unwrap();
    assert!(term.success());
    assert_eq!(server.0.wait().unwrap().code(), Some(0), "and ends as it should");
}
