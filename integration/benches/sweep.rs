//! What a push costs the server as what it serves grows tenfold and tenfold again: streams, names of a stream, roots,
//! the length of a CRL.
//!
//! `cargo bench -p integration --bench sweep`; with `-- plot` it draws docs/performance-sweep.svg anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod common;

use std::time::{Duration, SystemTime};

use common::fleet::{self, Fleet};
use common::plot::{Line, plot};
use common::sds::Ask;
use common::server::Server;
use common::stats::{median, us};
use common::table::{Goal, Table};
use common::{cpu, floor};
use integration::ca::Ca;

const ROUNDS: usize = 7;

fn main() {
    if floor::run_if_asked() || !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut table =
            Table::new("sweep, server CPU of a push and its ACK, less what the edit costs by itself");
        let mut lines = Vec::new();
        for (name, sizes) in [
            ("streams", [100, 1000, 10_000]),
            ("names of a stream", [1, 10, 100]),
            ("roots", [1, 10, 100]),
            ("certificates on a CRL", [10, 100, 1000]),
        ] {
            let mut points = Vec::new();
            for size in sizes {
                let (cost, streams) = match name {
                    "streams" => (by_streams(size).await, size),
                    "roots" => (by_roots(size).await, 1000),
                    "certificates on a CRL" => (by_crl(size).await, 1000),
                    _ => (by_names(size).await, 100),
                };
                let what = format!("{size} {name}, {streams} streams, against {} {name}", sizes[0]);
                let first = points.first().map_or(cost, |(_, cost)| *cost);
                table.line(
                    &what,
                    &format!("{cost:.2} µs"),
                    &format!("{first:.2} µs"),
                    cost / first,
                    Goal::None,
                );
                points.push((size as f64, cost));
            }
            lines.push(Line { name: name.to_owned(), points });
        }
        if std::env::args().any(|argument| argument == "plot") {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance-sweep.svg");
            std::fs::write(file, plot("one push and its ACK, µs of the server's CPU", "how many", &lines))
                .unwrap();
        }
    });
}

fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

async fn by_streams(streams: usize) -> f64 {
    let server = Server::start();
    server.entry("bench", uid(), &[]);
    fleet::sample(&server.socket(), "default").await;
    let edit = |round: usize| server.entry("bench", uid(), &[format!("edit-{round}.bench.test")]);
    cost(&server, &Ask::from("default"), streams, edit).await
}

/// A stream has all names, and one of them changes.
async fn by_names(names: usize) -> f64 {
    let server = Server::start();
    let id = |nth: usize| format!("many/{nth}");
    for nth in 0..names {
        server.entry(&id(nth), uid(), &[]);
    }
    let all: Vec<String> = (0..names).map(|nth| format!("spiffe://bench.test/{}", id(nth))).collect();
    for name in &all {
        fleet::sample(&server.socket(), name).await;
    }
    let edit = |round: usize| server.entry(&id(0), uid(), &[format!("edit-{round}.bench.test")]);
    cost(&server, &Ask::Delta(all), 100, edit).await
}

/// Another domain's bundle, of which one root changes.
async fn by_roots(roots: usize) -> f64 {
    let server = Server::start();
    server.entry("bench", uid(), &[]);
    let ca = || Ca::new("partner", Some("spiffe://partner.test")).unwrap().pem();
    let mut all: Vec<String> = (0..roots + 1).map(|_| ca()).collect();
    let last = all.pop().unwrap();
    let edit = |round: usize| {
        let changing = if round.is_multiple_of(2) { &all[0] } else { &last };
        let pem = [changing].into_iter().chain(&all[1..]).map(String::as_str).collect::<String>();
        partner(&server, &[("bundle", &pem)]);
    };
    edit(0);
    of_partner(&server, edit).await
}

/// Another domain's bundle, whose root signs a new CRL.
async fn by_crl(length: usize) -> f64 {
    let server = Server::start();
    server.entry("bench", uid(), &[]);
    let ca = Ca::new("partner", Some("spiffe://partner.test")).unwrap();
    let hour = Duration::from_secs(3600);
    let revoked: Vec<_> = (0..length).map(|_| ca.issue("spiffe://partner.test/x", hour).unwrap()).collect();
    let revoked: Vec<_> = revoked.iter().collect();
    let edit = |round: usize| {
        let crl = ca.crl(round as u64, &revoked, SystemTime::now() + hour).unwrap();
        partner(&server, &[("bundle", &ca.pem()), ("crls", &crl)]);
    };
    edit(0);
    of_partner(&server, edit).await
}

/// Writes the document of the other domain, with PEM under each key.
fn partner(server: &Server, keys: &[(&str, &str)]) {
    let mut text = "kind: TrustDomain\ntrust_domain: partner.test\n".to_owned();
    for (key, pem) in keys {
        let pem = pem.trim_end().replace('\r', "").replace('\n', "\n  ");
        text.push_str(&format!("{key}: |\n  {pem}\n"));
    }
    server.document("partner", &text);
}

/// What it costs to send the other domain's bundle to 1,000 streams.
async fn of_partner(server: &Server, edit: impl Fn(usize)) -> f64 {
    let name = "spiffe://partner.test";
    fleet::sample(&server.socket(), name).await;
    cost(server, &Ask::from(name), 1000, edit).await
}

/// CPU of one push to one stream, in µs: that of all, less that of the same edit with one stream.
async fn cost(server: &Server, ask: &Ask, streams: usize, edit: impl Fn(usize)) -> f64 {
    let mut spent = Vec::new();
    let mut edits = 0;
    // A connection on which much waits to be read is dropped: with many names fewer streams share one.
    let share = 1000 / ask.at_first();
    // What the edit costs by itself moves by more than a hundred pushes cost.
    let rounds = if streams < 1000 { ROUNDS * 20 } else { ROUNDS };
    for size in [1, streams] {
        let mut fleet = Fleet::open(&server.socket(), ask.clone(), size, share).await;
        let mut costs = Vec::new();
        for round in 1..=rounds {
            edits += 1;
            let before = cpu::settled(server.pid()).await;
            edit(edits);
            fleet.all_answered(ask.at_first() + round).await;
            costs.push(us(cpu::settled(server.pid()).await - before));
        }
        fleet.close().await;
        spent.push(median(&costs));
    }
    (spent[1] - spent[0]) / (streams - 1) as f64
}
