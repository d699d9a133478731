//! From the start of a real Envoy to its first secrets in use, against the same Envoy with the same certificate in files.
//!
//! `cargo bench -p integration --bench start`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::server::Server;
use common::stats::{median, percentile};
use common::table::{Goal, Table};
use common::{cpu, disk, fleet};
use envoy_configs::{Admin, Callee, Kind, Settings, render};
use integration::ca;
use integration::envoy::Envoy;
use integration::scratch::Scratch;
use integration::seats::Seat;
use integration::tools::Release;
use integration::{ports, sds};

const ROUNDS: usize = 15;

fn main() {
    if !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(bench());
}

async fn bench() {
    let server = Server::start();
    server.entry("bench", rustix::process::getuid().as_raw(), &[]);
    fleet::sample(&server.socket(), "default").await;
    let directory = disk::directory();
    let credential = sds::svid(&server.socket(), "default").await.unwrap();
    let [chain, key] = ca::write(&credential, directory.path(), "static").unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, server.roots().await).unwrap();

    let mut table = Table::new("start, Envoy 1.40 with one listener and one cluster");
    let (mut ours, mut files) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..ROUNDS {
        for of_files in [round % 2 == 0, round % 2 != 0] {
            let scratch = Scratch::new().unwrap();
            let text = bootstrap(&scratch, &server.socket());
            let text = if of_files { with_files(&text, [&chain, &key, &roots]) } else { text };
            let [wall, cpu] = started(&scratch, &text).await;
            let into = if of_files { &mut files } else { &mut ours };
            into[0].push(wall);
            into[1].push(cpu);
        }
    }
    let ms = |value: f64| format!("{value:.0} ms");
    for (what, part, by, goal) in [
        ("start → secrets in use : certificate in files", 0.5, 0, Goal::AtMost(150.0)),
        ("the same, p90", 0.9, 0, Goal::None),
        ("Envoy's CPU until then", 0.5, 1, Goal::None),
    ] {
        let [figure, limit] = [&ours[by], &files[by]].map(|times| percentile(times, part));
        table.line(&format!("{what}, difference in ms"), &ms(figure), &ms(limit), figure - limit, goal);
    }
    let paired: Vec<f64> = ours[0].iter().zip(&files[0]).map(|(ours, files)| ours - files).collect();
    table.line("… round by round", "", "", median(&paired), Goal::AtMost(150.0));
}

fn bootstrap(scratch: &Scratch, socket: &Path) -> String {
    let callee = Callee::Workload("spiffe://bench.test/api".parse().unwrap());
    let mut settings = Settings::new(Kind::Sidecar, "bench.test".parse().unwrap(), callee);
    settings.socket = socket.to_path_buf();
    settings.inbound = ports::free().unwrap();
    settings.outbound = ports::free().unwrap();
    settings.app = ports::free().unwrap();
    settings.admin = Admin::Unix(Envoy::admin_socket(scratch, "envoy"));
    render(Kind::Sidecar, &settings).unwrap()
}

/// The same bootstrap with what SDS would bring read from files.
fn with_files(text: &str, [chain, key, roots]: [&Path; 3]) -> String {
    let file = |path: &Path| format!("{{ filename: {} }}", path.display());
    let certificates =
        format!("tls_certificates: [ {{ certificate_chain: {}, private_key: {} }} ]", file(chain), file(key));
    let (mut out, mut is_within) = (String::new(), false);
    for line in text.lines() {
        let words = line.trim_start();
        let indent = &line[..line.len() - words.len()];
        if words.starts_with("tls_certificate_sds_secret_configs:") {
            out += &format!("{indent}{certificates}\n");
            is_within = true;
        } else if words.starts_with("combined_validation_context:") {
            out += &format!("{indent}validation_context:\n");
            is_within = false;
        } else if words.starts_with("match_typed_subject_alt_names:") {
            out += &format!("{indent}trusted_ca: {}\n{line}\n", file(roots));
        } else if !is_within
            && !words.starts_with("default_validation_context:")
            && !words.starts_with("validation_context_sds_secret_config:")
        {
            out += &format!("{line}\n");
        }
    }
    assert_eq!(out.matches("trusted_ca").count(), 2, "a listener and a cluster");
    assert!(!out.contains("sds_config"), "nothing comes by SDS");
    out
}

/// Milliseconds until Envoy has all that it starts with, by the wall and of its CPU.
async fn started(scratch: &Scratch, text: &str) -> [f64; 2] {
    let program = Release::default().envoy().unwrap().to_path_buf();
    let seat = Seat { uid: None, program, selector: String::new() };
    let start = Instant::now();
    let envoy = Envoy::start(scratch, "envoy", &seat, text).unwrap();
    while envoy.admin("/ready").await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", envoy.tail());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    [start.elapsed(), cpu::of(envoy.id())].map(|spent| spent.as_secs_f64() * 1e3)
}
