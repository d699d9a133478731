//! `systemd:` selectors with a real systemd, booted in a container, and the server as one of its units. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration::podman::{Container, Podman};
use integration::scratch::Scratch;
use integration::server::Server;
use integration::{poll, sds};

const BY_FILE: &str = "spiffe://example.org/by-file";
const BY_ID: &str = "spiffe://example.org/by-id";
const DELEGATED: &str = "spiffe://example.org/delegated";
const OTHER: &str = "spiffe://example.org/other";
const NAMES: [&str; 4] = [BY_FILE, BY_ID, DELEGATED, OTHER];
const SOCKET: &str = "COUNTERSIGN_TEST_SOCKET";
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test of its own: a caller that says of each name when it has it and when it lacks it.
#[tokio::test]
async fn helper_program() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    let socket = PathBuf::from(socket);
    let ended = sds::follow(&socket, &NAMES, |name, has| {
        println!("{} {name}", if has { "has" } else { "lacks" });
    });
    println!("ended: {:#}", ended.await.unwrap_err());
}

const COUNTERSIGN: &str = "[Service]
Type=notify
ExecStart=/countersign serve --init --trust-domain example.org --data /data --entries /entries
StandardOutput=file:/out/countersign.log
StandardError=file:/out/countersign.log
";

/// A unit that runs `program` and writes to `/out/NAME.log`.
fn unit(name: &str, more: &str, program: &str) -> String {
    format!(
        "[Unit]\nAfter=countersign.service dbus.service\nWants=countersign.service\n[Service]\nExecStart={program}\n\
         Environment={SOCKET}=/run/countersign/api.sock\nStandardOutput=append:/out/{name}.log\n\
         StandardError=append:/out/{name}.log\n{more}"
    )
}

const CALLER: &str = "/caller --exact helper_program --nocapture";

/// A delegated unit may do below its own cgroup as it likes, and makes one there that is named like another unit's. Only
/// below its own: where the container has no cgroup namespace it sees those of the whole machine.
const FAKE: &str = r"
own=$(sed -n 's,.*:\(/.*/delegated\.service\)$,\1,p' /proc/self/cgroup | head -n 1)
for at in /sys/fs/cgroup/systemd$own /sys/fs/cgroup$own; do
    [ -d $at ] && mkdir $at/web.service && echo $$ > $at/web.service/cgroup.procs
done
cat /proc/self/cgroup
";

struct Bench {
    podman: Podman,
    machine: Container,
    out: PathBuf,
    _scratch: Scratch,
}

async fn boot() -> Bench {
    let scratch = Scratch::new().unwrap();
    let podman = Podman::start(&scratch).await.unwrap();
    let (out, entries) = (scratch.dir("out", None).unwrap(), scratch.dir("entries", None).unwrap());
    let entry = |id: &str, selectors: &str| {
        format!("---\nkind: Workload\nspiffe_id: {id}\nselectors: [{selectors}]\n")
    };
    let text = [
        entry(BY_ID, "systemd:id:web.service"),
        entry(BY_FILE, "systemd:id:web.service, systemd:fragment_path:/etc/systemd/system/web.service"),
        entry(DELEGATED, "systemd:id:delegated.service"),
        entry(OTHER, "systemd:fragment_path:/etc/systemd/system/other.service"),
    ];
    fs::write(entries.join("all.yaml"), text.concat()).unwrap();
    // Its user is one that every Debian has: systemd wants an account.
    fs::write(out.join("fake.sh"), format!("{FAKE}exec {CALLER}\n")).unwrap();
    let fake = "/bin/sh /out/fake.sh";
    let (web, delegated) = (unit("web", "", CALLER), unit("delegated", "Delegate=yes\nUser=daemon\n", fake));
    let units = [
        ("countersign.service", COUNTERSIGN),
        ("web.service", web.as_str()),
        ("delegated.service", delegated.as_str()),
    ];
    let volume = |from: &std::path::Path, to: &str| format!("{}:{to}", from.display());
    let volumes = [
        volume(Server::program().unwrap(), "/countersign:ro"),
        volume(&std::env::current_exe().unwrap(), "/caller:ro"),
        volume(&entries, "/entries:ro"),
        volume(&out, "/out"),
    ];
    let options: Vec<&str> = volumes.iter().flat_map(|volume| ["--volume", volume]).collect();
    let machine = podman.boot(&options, &units).unwrap();
    Bench { podman, machine, out, _scratch: scratch }
}

impl Bench {
    fn said(&self, unit: &str) -> String {
        fs::read_to_string(self.out.join(format!("{unit}.log"))).unwrap_or_default()
    }

    async fn says(&self, unit: &str, lines: &[String]) {
        let said = poll::holds("the unit says it", PATIENCE, async || {
            let said = self.said(unit);
            lines.iter().all(|wanted| said.lines().any(|line| line == wanted))
        });
        said.await.unwrap_or_else(|e| {
            panic!("{e}: {lines:?}\n{}\n---\n{}", self.said(unit), self.said("countersign"));
        });
    }

    fn on_machine(&self, program: &[&str]) -> String {
        self.podman.podman(&[&["exec", &self.machine.id], program].concat()).unwrap()
    }
}

fn has(id: &str) -> String {
    format!("has {id}")
}

fn lacks(id: &str) -> String {
    format!("lacks {id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_has_its_identity_and_a_delegated_cgroup_of_its_name_does_not() {
    let bench = boot().await;
    bench.says("web", &[has(BY_ID), has(BY_FILE), lacks(DELEGATED), lacks(OTHER)]).await;
    bench.says("delegated", &[has(DELEGATED), lacks(BY_ID), lacks(BY_FILE), lacks(OTHER)]).await;
    let said = bench.said("delegated");
    assert!(said.contains("/delegated.service/web.service"), "it did not move: {said}");
    assert!(!said.contains(&has(BY_ID)) && !said.contains(&has(BY_FILE)), "{said}");
    assert!(!bench.said("web").contains(&has(DELEGATED)));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_bus_the_cgroup_tells_the_unit_and_its_file_comes_with_the_bus() {
    let bench = boot().await;
    bench.says("web", &[has(BY_FILE)]).await;
    bench.on_machine(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    fs::remove_file(bench.out.join("web.log")).unwrap();
    bench.on_machine(&["systemctl", "restart", "web.service"]);
    bench.says("web", &[has(BY_ID), lacks(BY_FILE)]).await;
    assert!(!bench.said("web").contains(&has(BY_FILE)));
    bench.on_machine(&["systemctl", "start", "dbus.socket", "dbus.service"]);
    // On the stream that is open.
    bench.says("web", &[has(BY_FILE)]).await;
}
