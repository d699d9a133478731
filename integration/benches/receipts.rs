//! What the statistics of ten thousand Envoys cost, at one flush a second, against sockets that are answered unread.
//!
//! `cargo bench -p integration --bench receipts`. A real Envoy is started to record one flush; then processes, as many
//! as a server of 20,000 files can tell apart (a connection and a pidfd each), send that flush once a second each.

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

use common::envoys::{self, Envoys};
use common::raw::{self, Raw};
use common::server::Server;
use common::stats::us;
use common::table::{Goal, Table};
use common::wires::Place;
use common::{cpu, disk, fleet, recorder, wire};
use integration::http;
use sds_server::receipts::{Bounds, Observation};

/// Of five thousand what two CPUs can bear beside them: the figure is scaled.
const PROCESSES: usize = 5000;
const ENVOYS: f64 = 10_000.0;
const WINDOW: Duration = Duration::from_secs(20);

fn main() {
    if raw::run_if_asked() || envoys::run_if_asked() || !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(bench());
}

async fn bench() {
    let server = Server::start();
    server.entry("bench", rustix::process::getuid().as_raw(), &[]);
    let (leaf, _) = fleet::sample(&server.socket(), "default").await;
    let (roots, _) = fleet::sample(&server.socket(), "ROOTCA").await;
    let directory = disk::directory();
    let flush = recorder::flush(&server.socket(), directory.path()).await;
    let seen = Observation::decode(&flush[5..], Bounds::default()).unwrap();
    let proved = ["default", "ROOTCA"].map(|name| seen.secrets[name].version.is_some());
    assert_eq!((proved, seen.updates.len()), ([true; 2], 2), "a listener and a cluster: {seen:?}");
    let file = directory.path().join("flush");
    std::fs::write(&file, &flush).unwrap();

    let title = format!("receipts, {} octets a flush, {PROCESSES} processes with one a second", flush.len());
    let mut table = Table::new(&title);
    let first = [wire::answer(1), wire::data(1, &leaf), wire::answer(3), wire::data(3, &roots)].concat();
    let bare = directory.path().join("raw.sock");
    let floor = Raw::start(&Place::Unix(bare.clone()), directory.path(), &first, &[]);
    let (limit, _) = spent(&bare, &file, floor.pid(), async || f64::NAN).await;
    drop(floor);
    let taken = async || taken(&server.data().join("admin.sock")).await;
    let (figure, flushes) = spent(&server.socket(), &file, server.pid(), taken).await;
    let expected = PROCESSES as f64 * WINDOW.as_secs_f64();
    assert!(flushes > 0.95 * expected, "{flushes} of {expected} flushes were taken");
    let cpu = |a_second: f64| format!("{:.1} % of a core", a_second * ENVOYS / 1e4);
    let (figure, limit) = (figure / expected, limit / expected);
    let share = figure * ENVOYS / 1e4;
    table.line("10,000 Envoys : answered unread", &cpu(figure), &cpu(limit), share, Goal::AtMost(5.0));
    let each = |spent: f64| format!("{spent:.2} µs");
    table.line("a flush : answered unread", &each(figure), &each(limit), figure / limit, Goal::None);
    let refused = refused(&server.data().join("admin.sock")).await;
    assert_eq!(refused, 0.0, "flushes were refused");
}

/// CPU of process `pid` while flushes come to `socket`, in µs, and by how much `count` rose; less what it has at rest.
async fn spent(socket: &Path, flush: &Path, pid: u32, count: impl AsyncFn() -> f64) -> (f64, f64) {
    let mut envoys = Envoys::start(socket, flush, PROCESSES);
    cpu::settled(pid).await;
    let rest = during(pid, WINDOW / 4).await * 4.0;
    envoys.go();
    tokio::time::sleep(Duration::from_secs(4)).await; // all have begun, and been looked at once
    let before = count().await;
    let used = during(pid, WINDOW).await;
    (used - rest, count().await - before)
}

async fn during(pid: u32, window: Duration) -> f64 {
    let (before, start) = (cpu::of(pid), Instant::now());
    tokio::time::sleep(window).await;
    us(cpu::of(pid) - before) * window.as_secs_f64() / start.elapsed().as_secs_f64()
}

async fn taken(admin: &Path) -> f64 {
    metric(admin, "countersign_receipts_total").await
}

async fn refused(admin: &Path) -> f64 {
    metric(admin, "countersign_receipts_refused_total").await
}

/// The sum over all labels.
async fn metric(admin: &Path, name: &str) -> f64 {
    let answer = http::get_unix(admin, "/metrics").await.unwrap();
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    let of = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    text.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
