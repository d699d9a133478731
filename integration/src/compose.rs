//! docker-compose.yml run for real: images made here, brought up by podman-compose, looked at, and taken down.
//!
//! No image is pulled. The base is Debian by debootstrap, made once and kept; server and Envoy are put on it. Needs root.

mod images;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::podman::Podman;
use crate::poll;
use crate::scratch::Scratch;
use crate::server;
use crate::tools::{self, apt};

/// Envoy looks its neighbour's name up every five seconds, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
const PROJECT: &str = "countersign";
/// Of both Envoys.
const SECRETS: usize = 6;
/// What another container of the same network does, past the Envoy of the caller.
const STRANGER: &str = "
import urllib.request
try:
    print('answered', urllib.request.urlopen('http://api-envoy:15006/', timeout=5).status)
except Exception as error:
    print('refused in clear:', type(error).__name__)
";

/// Whether all holds; it says what it saw.
///
/// # Errors
/// Something cannot be installed, built or started.
pub async fn check() -> Result<bool> {
    // podman-compose's own dependencies, and names for containers.
    apt::need("podman-compose", &["podman-compose"])?;
    apt::need("/usr/lib/podman/netavark", &["netavark", "aardvark-dns"])?;
    let scratch = Scratch::new()?;
    let mut podman = Podman::bare(&scratch, "overlay")?;
    podman.serve().await?;
    println!("images, without pulling any:");
    let binary = server::built()?;
    images::make(&podman, &scratch)?;
    println!(
        "{}",
        podman.podman(&["images", "--format", "  {{.Repository}}:{{.Tag}}  {{.Size}}"])?.trim_end()
    );

    let compose = Compose::new(&podman, binary)?;
    println!("$ podman-compose up --detach --build");
    // Taken down whatever comes of it: networks and volumes would stay.
    let held = match compose.run(&["up", "--detach", "--build"]) {
        Ok(()) => look(&podman).await,
        Err(error) => Err(error),
    };
    println!("$ podman-compose down --volumes");
    compose.run(&["down", "--volumes", "--timeout", "5"])?;
    let left = podman.podman(&["ps", "--all", "--quiet"])?;
    ensure!(left.is_empty(), "containers are left: {left}");
    let held = held?;
    println!("{}", if held { "all of it holds" } else { "NOT all of it holds" });
    Ok(held)
}

async fn look(podman: &Podman) -> Result<bool> {
    let named = |service: &str| format!("{PROJECT}_{service}_1");
    let answered = async || {
        let said = podman.logs(&named("web")).ok()?;
        said.lines().rev().find(|line| line.starts_with("api answered")).map(str::to_owned)
    };
    let line = poll::until("web's program is answered", PATIENCE, answered).await.with_context(|| {
        let log = |service: &str| podman.logs(&named(service)).unwrap_or_default();
        ["server", "web-envoy", "api-envoy", "web"].map(log).join("\n---\n")
    })?;
    println!("{}", podman.podman(&["ps", "--format", "  {{.Names}}  {{.Status}}"])?.trim_end());
    println!("web's program: {line}");
    let streams = || podman.podman(&["exec", &named("server"), "countersign", "streams"]);
    let proved = async || streams().ok().filter(|said| said.matches("proved_applied").count() >= SECRETS);
    let proved = poll::until("both Envoys have shown that they use what they have", PATIENCE, proved).await;
    let streams = proved.with_context(|| streams().unwrap_or_else(|error| format!("no streams: {error}")))?;
    println!("$ podman exec {} countersign streams\n{}", named("server"), streams.trim_end());

    let network = format!("{PROJECT}_default");
    let stranger = ["run", "--rm", "--network", &network, "--user", "101:101"];
    let program = [images::BASE, "python3", "-c", STRANGER];
    let said = podman.podman(&[&stranger[..], &program].concat())?;
    println!("a stranger in the same network: {}", said.trim());

    let id = |name: &str| format!("spiffe://example.org/{name}");
    let holds = [
        ("api sees who web is", line.contains(&format!("it saw {} ", id("web")))),
        ("api is who it should be", line.contains(&format!("By={};", id("api")))),
        ("what web claimed to be did not reach api", !line.contains("admin")),
        ("a stranger is refused", said.contains("refused in clear")),
    ];
    holds.iter().filter(|(_, holds)| !holds).for_each(|(what, _)| println!("NOT so: {what}"));
    Ok(holds.iter().all(|(_, holds)| *holds))
}

/// podman-compose for the top level's docker-compose.yml.
struct Compose {
    program: PathBuf,
    home: PathBuf,
    module: PathBuf,
    variables: [(&'static str, String); 5],
}

impl Compose {
    fn new(podman: &Podman, binary: &Path) -> Result<Self> {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        // The build's context: what lies beside it cannot be sent.
        let advice = "build into the workspace's own target directory: unset CARGO_TARGET_DIR";
        let binary = binary.strip_prefix(&home).context(advice)?.display().to_string();
        let variables = [
            ("BASE_IMAGE", images::BASE.to_owned()),
            ("APP_IMAGE", images::BASE.to_owned()),
            ("ENVOY_IMAGE", images::ENVOY.to_owned()),
            ("BINARY", binary),
            ("CONTAINER_SOCKET", podman.socket().display().to_string()),
        ];
        Ok(Self { program: podman.program()?, home, module: tools::podman_compose()?, variables })
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        // Debian's Python: it has the modules that came with Debian's podman-compose.
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-m", "podman_compose", "--podman-path"]).arg(&self.program).args(arguments);
        command.current_dir(&self.home).env("PYTHONPATH", &self.module).envs(self.variables.clone());
        let output = command.output().context("podman-compose")?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "podman-compose {arguments:?}:\n{}", String::from_utf8_lossy(&said));
        Ok(())
    }
}
