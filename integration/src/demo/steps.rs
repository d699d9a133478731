//! What the demo shows to hold, each with what was seen of it.

use std::time::Duration;

use anyhow::Result;

use super::programs::Programs;
use super::terminal::Terminal;
use crate::mesh::Mesh;
use crate::poll;
use crate::stranger::{self, Attempt, RogueCa};

/// Envoys log within 100 ms; programs report twice a second.
const SOON: Duration = Duration::from_secs(5);

/// Runs them in order: whether each held.
pub(super) async fn all(terminal: &Terminal, mesh: &Mesh, programs: &mut Programs) -> Result<Vec<bool>> {
    let mut held = vec![called(terminal, mesh).await?];
    let clear = stranger::call_in_clear(mesh.inbound).await?;
    held.push(refused(terminal, mesh, "in clear, past the sidecar: refused", &clear, "HTTP_REQUEST").await);
    let none = stranger::call(mesh.inbound, None).await?;
    held.push(refused(terminal, mesh, "without a certificate: refused", &none, "PEER_DID_NOT_RETURN").await);
    let forged = RogueCa::new("example.org")?.svid(&mesh.web_id)?;
    let rogue = stranger::call(mesh.inbound, Some(&forged)).await?;
    let claim = format!("as {}, signed by a rogue CA: refused", mesh.web_id);
    held.push(refused(terminal, mesh, &claim, &rogue, "unable_to_get_local_issuer").await);
    held.push(renewed(terminal, mesh, programs).await?);
    Ok(held)
}

async fn called(terminal: &Terminal, mesh: &Mesh) -> Result<bool> {
    let claim = "web's program calls api's in clear; between the Envoys it is mutual TLS 1.3";
    let forged = [("x-peer-spiffe-id", "spiffe://example.org/admin")];
    // Its program may still be starting.
    let seen = poll::until("api's program answers", SOON, async || mesh.call(&forged).await.ok()).await;
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            terminal.step(false, claim, &[format!("{error:#}"), mesh.web.tail()]);
            return Ok(false);
        }
    };
    let stats = mesh.api.stats().await?;
    let tls = stats.sum("listener.", ".ssl.versions.TLSv1.3");
    let xfcc = seen.xfcc.join(", ");
    let holds = seen.peer == [mesh.web_id.clone()]
        && tls > 0
        && xfcc.contains(&format!("By={}", mesh.api_id))
        && xfcc.contains(&format!("URI={}", mesh.web_id));
    let peer = seen.peer.join(", ");
    let lines = [
        "api's program saw:".to_owned(),
        format!("x-forwarded-client-cert: {xfcc}"),
        format!(
            "x-peer-spiffe-id: {peer}  (the caller had claimed {})",
            forged.map(|header| header.1).join("")
        ),
    ];
    terminal.step(holds, claim, &lines);
    Ok(holds)
}

/// Refused, and for the right reason: a listener that is down refuses too.
async fn refused(terminal: &Terminal, mesh: &Mesh, claim: &str, attempt: &Attempt, reason: &str) -> bool {
    let line = poll::until("the reason is logged", SOON, async || {
        let log = mesh.api.log();
        let words = log.lines().filter_map(|line| line.split_once("refused=")).map(|(_, why)| why.to_owned());
        words.into_iter().find(|why| why.contains(reason))
    })
    .await;
    let holds = attempt.is_refused() && line.is_ok();
    let said = line.unwrap_or_else(|_| format!("no {reason} in its log; the caller saw {attempt:?}"));
    terminal.step(holds, claim, &[format!("api's Envoy: {said}")]);
    holds
}

async fn renewed(terminal: &Terminal, mesh: &Mesh, programs: &mut Programs) -> Result<bool> {
    let serials = async || -> Result<_> {
        Ok((mesh.web.serial(&mesh.web_id).await?, mesh.api.serial(&mesh.api_id).await?))
    };
    let before = serials().await?;
    let start = programs.tally()?;
    let both = poll::until("both certificates are renewed", Duration::from_secs(30), async || {
        let now = serials().await.ok()?;
        (now.0.is_some() && now.1.is_some() && now.0 != before.0 && now.1 != before.1).then_some(now)
    })
    .await;
    // Calls made with the new certificates count too.
    let seen = programs.tally()?;
    let after = poll::until("web's program goes on", SOON, async || {
        programs.tally().ok().filter(|tally| tally.answered > seen.answered + 20)
    })
    .await;
    programs.alive()?;
    let end = programs.tally()?;
    let holds = both.is_ok() && after.is_ok() && end.failed == 0;
    let show = |name: &str, was: &Option<String>, is: Option<&Option<String>>| {
        let text = |serial: Option<&str>| serial.unwrap_or("none").to_owned();
        let is = is.and_then(Option::as_deref);
        format!("{name}: serial {} -> {}", text(was.as_deref()), text(is))
    };
    let mut lines = vec![
        show("web", &before.0, both.as_ref().ok().map(|now| &now.0)),
        show("api", &before.1, both.as_ref().ok().map(|now| &now.1)),
        format!("{} calls meanwhile, {} failed since the start", end.answered - start.answered, end.failed),
    ];
    lines.extend(end.first_failure);
    terminal.step(holds, "both certificates are renewed live, with a handshake for each call", &lines);
    Ok(holds)
}
