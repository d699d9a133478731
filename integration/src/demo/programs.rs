//! The two plain programs: this binary again, as processes and, with root, users of their own.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use crate::load::{Load, Mode, Tally};
use crate::mesh::Mesh;
use crate::process::Process;
use crate::seats::{self, Seats};
use crate::{app, http, poll};

/// The arguments by which this binary is one of them.
pub(super) const ANSWER: &str = "program-answer";
pub(super) const CALL: &str = "program-call";

/// Not the users of the Envoys: a program cannot ask for its sidecar's certificate.
const WEB_UID: u32 = 20_101;
const API_UID: u32 = 20_102;

pub(super) struct Programs {
    api: Process,
    web: Process,
    pub(super) web_as: String,
    pub(super) api_as: String,
}

impl Programs {
    pub(super) fn start(mesh: &Mesh) -> Result<Self> {
        let program = seats::runnable(&mesh.scratch, "demo", &std::env::current_exe()?)?;
        let spawn = |name: &str, arguments: [String; 2], uid: u32| {
            let mut command = Command::new(&program);
            command.args(arguments);
            let uid = (mesh.seats == Seats::Users).then_some(uid);
            let log = mesh.scratch.path().join(format!("{name}-program.log"));
            let process = Process::spawn(&format!("{name}'s program"), command, uid, &log)?;
            let who = uid.map_or_else(|| "(same user)".to_owned(), |uid| format!("(uid {uid})"));
            anyhow::Ok((process, who))
        };
        let (api, api_as) = spawn("api", [ANSWER.into(), mesh.app.to_string()], API_UID)?;
        let (web, web_as) = spawn("web", [CALL.into(), mesh.calls.to_string()], WEB_UID)?;
        Ok(Self { api, web, web_as, api_as })
    }

    /// What came of web's calls up to now.
    pub(super) fn tally(&self) -> Result<Tally> {
        let output = self.web.output();
        let Some(line) = output.lines().last() else { return Ok(Tally::default()) };
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).with_context(|| line.to_owned());
        let (answered, failed) = (number()?, number()?);
        let first_failure = words.next().filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Tally { answered, failed, first_failure })
    }

    pub(super) fn alive(&mut self) -> Result<()> {
        self.api.alive()?;
        self.web.alive()
    }
}

/// api's program.
pub(super) async fn answer(listen: &str) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    app::serve("api".into(), listener).await;
    Ok(())
}

/// web's program: calls for ever, and says twice a second how it goes.
pub(super) async fn call(target: &str) -> Result<()> {
    let target: SocketAddr = target.parse()?;
    // The other program may start later: its absence is no failure of a call.
    let answers =
        async || http::get_tcp(target, "/", &[]).await.is_ok_and(|answer| answer.status().is_success());
    poll::holds("api answers", Duration::from_secs(20), answers).await?;
    let load = Load::start(target, &[Mode::Kept, Mode::Fresh], Duration::from_millis(10));
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let tally = load.so_far();
        let failure = tally.first_failure.unwrap_or_default().replace('\n', " ");
        // Its output is a file: lines are flushed as they end.
        println!("{} {} {failure}", tally.answered, tally.failed);
    }
}
