//! `docker:` selectors with real containers, under Podman: who gets what, who is not believed, and what an outage of
//! the runtime changes. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use integration::podman::{Container, Podman};
use integration::process::Process;
use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::{poll, sds};

const WEB: &str = "spiffe://example.org/web";
const API: &str = "spiffe://example.org/api";
const HOST: &str = "spiffe://example.org/host";
const SOCKET: &str = "COUNTERSIGN_TEST_SOCKET";
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test of its own: a caller, in a container or not, that says of each name when it has it and when it lacks it.
#[tokio::test]
async fn helper_program() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    println!("\npid {}", std::process::id());
    let socket = PathBuf::from(socket);
    let ended = sds::follow(&socket, &[WEB, API, HOST], |name, has| {
        println!("{} {name}", if has { "has" } else { "lacks" });
    });
    println!("ended: {:#}", ended.await.unwrap_err());
    // So that the container stays, and what it said can be read.
    std::future::pending::<()>().await;
}

struct Bench {
    server: Server,
    podman: Podman,
    scratch: Scratch,
}

async fn bench(entries: &[(&str, &[&str])]) -> Bench {
    let scratch = Scratch::new().unwrap();
    let podman = Podman::start(&scratch).await.unwrap();
    let more = format!("attestors:\n  docker:\n    sockets: [{}]\n", podman.socket().display());
    let server = Server::start(&scratch, "server", &Options { more, ..Options::default() }).await.unwrap();
    entries.iter().for_each(|(id, selectors)| server.add_entry(id, selectors).unwrap());
    poll::holds("the entries are read", PATIENCE, async || {
        let listed = server.cli(&["entries", "-o", "json"]).unwrap().stdout;
        String::from_utf8_lossy(&listed).matches("\"spiffe_id\"").count() == entries.len()
    })
    .await
    .unwrap();
    Bench { server, podman, scratch }
}

impl Bench {
    /// The caller as a container, with the machine's libraries.
    fn caller(&self, options: &[&str]) -> Container {
        let socket = format!("{}:/api.sock", self.server.socket().display());
        let program = format!("{}:/caller:ro", std::env::current_exe().unwrap().display());
        let variable = format!("{SOCKET}=/api.sock");
        let mounts = [
            "--volume",
            &socket,
            "--volume",
            &program,
            "--volume",
            "/lib:/lib:ro",
            "--volume",
            "/lib64:/lib64:ro",
            "--volume",
            "/usr/lib:/usr/lib:ro",
            "--env",
            &variable,
        ];
        let options = [&mounts[..], options].concat();
        self.podman.run(&options, &["/caller", "--exact", "helper_program", "--nocapture"]).unwrap()
    }

    /// Waits until the container has said `lines`.
    async fn says(&self, container: &Container, lines: &[&str]) {
        let said = poll::holds("the caller says it", PATIENCE, async || {
            let log = self.podman.logs(&container.id).unwrap();
            lines.iter().all(|wanted| log.lines().any(|line| line == *wanted))
        });
        let log = || self.podman.logs(&container.id).unwrap();
        said.await.unwrap_or_else(|e| panic!("{e}: {lines:?}\n{}\n{}", log(), self.server.log()));
    }

    /// What `explain` says of a process, as text.
    fn explain(&self, pid: u32) -> String {
        let output = self.server.cli(&["explain", "pid", &pid.to_string()]).unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn never_said(&self, container: &Container, line: &str) {
        let log = self.podman.logs(&container.id).unwrap();
        assert!(!log.lines().any(|said| said == line), "{log}");
    }
}

fn has(id: &str) -> String {
    format!("has {id}")
}

fn lacks(id: &str) -> String {
    format!("lacks {id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_containers_of_the_same_uid_have_each_their_own_identity() {
    let bench = bench(&[
        (WEB, &["docker:label:app:web"]),
        (API, &["docker:label:app:api", "docker:env:MODE=strict", "docker:image_id:localhost/busybox:test"]),
        (HOST, &["unix:uid:0"]),
    ])
    .await;
    let web = bench.caller(&["--label", "app=web"]);
    let api = bench.caller(&["--label", "app=api", "--env", "MODE=strict"]);
    bench.says(&web, &[&has(WEB), &lacks(API), &lacks(HOST)]).await;
    bench.says(&api, &[&has(API), &lacks(WEB), &lacks(HOST)]).await;
    for (container, other) in [(&web, API), (&api, WEB)] {
        bench.never_said(container, &has(other));
        bench.never_said(container, &has(HOST));
    }
    // A process that was let in afterwards is in the container too.
    let explained = bench.explain(web.pid);
    assert!(explained.contains("docker:label:app:web") && explained.contains(WEB), "{explained}");
    assert!(!explained.contains("unix:uid:0\n"), "{explained}");
    let status = bench.server.cli(&["status"]).unwrap();
    assert!(String::from_utf8_lossy(&status.stdout).contains("docker"), "{status:?}");
    // One of them alone can be named too.
    let that_one = format!("docker:container_id:{}", web.id);
    bench.server.add_entry(HOST, &[&that_one]).unwrap();
    bench.says(&web, &[&has(HOST)]).await;
    bench.never_said(&api, &has(HOST));
}

/// The cgroups of a process, as paths below the mounts of their hierarchies.
fn directories(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let found = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (hierarchy, path) = (fields.next().unwrap(), fields.next().unwrap());
        let is_it = |line: &&str| match hierarchy {
            "" => line.contains(" - cgroup2 "),
            named => line.contains(" - cgroup ") && line.ends_with(named),
        };
        let point = mounts.lines().find(is_it)?.split(' ').nth(4).unwrap();
        Some(PathBuf::from(format!("{point}{}", path.trim_end_matches('/'))))
    });
    let found: Vec<_> = found.collect();
    assert!(!found.is_empty(), "{text}\n{mounts}");
    found
}

/// Cgroups of a test's own, removed at the end, when nobody stands in them.
struct Groups(Vec<PathBuf>);

impl Groups {
    /// `name` in the root of every hierarchy, given to `owner`, and below it one named like the container.
    fn delegated(name: &str, owner: u32, leaf: &str) -> Self {
        let mut made = Vec::new();
        for own in directories(std::process::id()) {
            let top = own.join(name);
            if fs::create_dir(&top).is_err() {
                continue;
            }
            std::os::unix::fs::chown(&top, Some(owner), Some(owner)).unwrap();
            let inner = top.join(leaf);
            fs::create_dir(&inner).unwrap();
            std::os::unix::fs::chown(&inner, Some(owner), Some(owner)).unwrap();
            made.extend([inner, top]);
        }
        assert!(!made.is_empty());
        Self(made)
    }

    fn take_in(&self, pid: u32) {
        for inner in self.0.iter().step_by(2) {
            // A cpuset without processors takes nobody in.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = fs::read_to_string(format!("/sys/fs/cgroup/cpuset/{file}")) {
                    let top = inner.parent().unwrap();
                    let _ = fs::write(top.join(file), all.trim());
                    let _ = fs::write(inner.join(file), all.trim());
                }
            }
            fs::write(inner.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for directory in &self.0 {
            for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
                let up = directory.parent().unwrap().parent().unwrap().join("cgroup.procs");
                let _ = fs::write(up, pid);
            }
            let _ = fs::remove_dir(directory);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_in_a_delegated_cgroup_named_like_a_containers_gets_nothing() {
    let bench = bench(&[(WEB, &["docker:label:app:web"]), (HOST, &["unix:uid:1001"])]).await;
    let web = bench.caller(&["--label", "app=web"]);
    bench.says(&web, &[&has(WEB)]).await;

    let groups = Groups::delegated("delegated-a", 1001, &format!("libpod-{}", web.id));
    let scratch = bench.scratch.dir("attacker", None).unwrap();
    let program =
        integration::seats::runnable(&bench.scratch, "caller", &std::env::current_exe().unwrap()).unwrap();
    // It joins before it connects: what it had before is no matter.
    let mut command = Command::new("sh");
    command
        .args(["-c", "read go < \"$0\"; exec \"$1\" --exact helper_program --nocapture"])
        .args([scratch.join("go"), program])
        .env(SOCKET, bench.server.socket())
        .current_dir("/");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scratch.join("go"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let attacker = Process::spawn("attacker", command, Some(1001), &scratch.join("log")).unwrap();
    groups.take_in(attacker.id());
    let stands = fs::read_to_string(format!("/proc/{}/cgroup", attacker.id())).unwrap();
    assert!(stands.contains(&web.id), "{stands}");
    fs::write(scratch.join("go"), "go\n").unwrap();
    poll::holds("the attacker is answered", PATIENCE, async || {
        let said = attacker.output();
        said.contains(&lacks(WEB)) && said.contains(&has(HOST))
    })
    .await
    .unwrap();
    let explained = bench.explain(attacker.id());
    assert!(explained.contains("is not that container's"), "{explained}");
    assert!(!attacker.output().contains(&has(WEB)), "{}", attacker.output());
    drop(attacker);
    drop(groups);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_runtime_takes_nothing_from_those_it_spoke_of_and_holds_up_nobody_else() {
    let mut bench =
        bench(&[(WEB, &["docker:label:app:web"]), (API, &["docker:label:app:api"]), (HOST, &["unix:uid:0"])])
            .await;
    let web = bench.caller(&["--label", "app=web"]);
    bench.says(&web, &[&has(WEB)]).await;
    bench.podman.silence();

    // Callers whom no such entry can concern are served as ever.
    sds::svid(&bench.server.socket(), HOST).await.unwrap();
    // A new container is not known: not yet, and then, on the stream that it opened, it is.
    let api = bench.caller(&["--label", "app=api"]);
    bench.says(&api, &[&lacks(API)]).await;
    let failing = |bench: &Bench| {
        let status = bench.server.cli(&["status"]).unwrap();
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        (text.contains("the attestor docker fails"), text)
    };
    let (is_failing, status) = failing(&bench);
    assert!(is_failing, "{status}");
    // The container that was known keeps what it had, also on another connection: its first process lives.
    let again = format!("{SOCKET}=/api.sock");
    bench
        .podman
        .podman(&[
            "exec",
            "--detach",
            "--env",
            &again,
            &web.id,
            "/bin/sh",
            "-c",
            "exec /caller --exact helper_program --nocapture > /tmp/second 2>&1",
        ])
        .unwrap();
    let second = PathBuf::from(format!("/proc/{}/root/tmp/second", web.pid));
    poll::holds("the second connection has it", PATIENCE, async || {
        fs::read_to_string(&second).unwrap_or_default().contains(&has(WEB))
    })
    .await
    .unwrap();

    bench.podman.serve().await.unwrap();
    bench.says(&api, &[&has(API)]).await;
    assert!(!failing(&bench).0);
    bench.never_said(&web, &lacks(WEB));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_hangs_is_waited_for_no_longer_than_the_deadline() {
    let mut bench = bench(&[(WEB, &["docker:label:app:web"]), (HOST, &["unix:uid:0"])]).await;
    let pid = bench.podman.service().unwrap().id();
    let signal = |signal| bench_signal(pid, signal);
    signal(rustix::process::Signal::STOP);
    let web = bench.caller(&["--label", "app=web"]);
    bench.says(&web, &[&lacks(WEB)]).await;
    let explained = bench.explain(web.pid);
    assert!(
        explained.contains("docker: late, so that its selectors are unknown\n  ! no answer within 2 s"),
        "{explained}"
    );
    signal(rustix::process::Signal::CONT);
    bench.says(&web, &[&has(WEB)]).await;
}

fn bench_signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_started_again_is_attested_anew() {
    let bench = bench(&[(WEB, &["docker:label:app:web"])]).await;
    let first = bench.caller(&["--label", "app=web"]);
    bench.says(&first, &[&has(WEB)]).await;
    bench.podman.podman(&["stop", "--time", "0", &first.id]).unwrap();
    let count = |log: String| log.lines().filter(|line| *line == has(WEB)).count();
    let before = count(bench.podman.logs(&first.id).unwrap());
    bench.podman.podman(&["start", &first.id]).unwrap();
    let second = bench.podman.container(&first.id).unwrap();
    assert_ne!(first.pid, second.pid);
    poll::holds("the second run has it", PATIENCE, async || {
        count(bench.podman.logs(&first.id).unwrap()) > before
    })
    .await
    .unwrap();
    let gone = bench.explain(first.pid);
    assert!(!gone.contains(WEB), "{gone}");
}
