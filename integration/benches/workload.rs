//! The Workload API of the release binary: an entry's second SVID at a client that watches, and one change of a bundle to
//! five thousand streams.
//!
//! `cargo bench -p integration --bench workload`; `… -- entry` or `-- bundle` runs one of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod common;

use std::time::{Duration, Instant};

use common::fleet::Fleet;
use common::floor::{self, Floor, Kind};
use common::sds::{Ask, Connection};
use common::server::Server;
use common::stats::{median, percentile, us};
use common::table::{Goal, Table};
use common::{cpu, disk, fleet};
use integration::ca::Ca;

const STREAMS: usize = 5000;
const BUNDLES: Ask = Ask::Workload("FetchX509Bundles");
const SVIDS: Ask = Ask::Workload("FetchX509SVID");

fn main() {
    if floor::run_if_asked() || !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut table = Table::new("workload, the release binary over its Unix socket");
        if common::wanted("entry") {
            second_svid(&mut table).await;
        }
        if common::wanted("bundle") {
            bundle(&mut table).await;
        }
    });
}

fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

async fn ready() -> Server {
    let server = Server::start();
    server.entry("bench", uid(), &[]);
    fleet::sample(&server.socket(), "default").await;
    server
}

/// From an entry's file to the response that has its SVID as the second, on a stream that was there before.
async fn second_svid(table: &mut Table) {
    const ROUNDS: usize = 120;
    /// Their entries are taken away again: a change that withdraws more than a tenth of all in a minute is held back.
    const OTHERS: usize = 1500;
    let server = ready().await;
    server.others(OTHERS);
    tokio::time::sleep(Duration::from_secs(2)).await; // or it would be taken in with the next one
    let mut stream = Connection::open(&server.socket()).await.ask(&SVIDS).await;
    let alone = stream.next().await.len();
    let mut scratch = disk::Scratch::new(server.directory());
    let (mut ours, mut disk) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        let name = format!("second/{number}");
        tokio::time::sleep(Duration::from_millis(30)).await;
        let start = Instant::now();
        scratch.sync(3);
        disk.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        server.entry(&name, uid(), &[]);
        let both = stream.next().await.len();
        ours.push(start.elapsed().as_secs_f64() * 1e3);
        assert!(both > alone + alone / 2, "the response has two");
        server.remove_entry(&name);
        assert!(stream.next().await.len() < both, "and one again");
    }
    for (part, goal) in [(0.5, Goal::AtMost(5.0)), (0.99, Goal::None)] {
        let [ours, disk] = [&ours, &disk].map(|times| percentile(&times[20..], part));
        let what = format!("entry file → second SVID : 3 fsyncs, p{}", part * 100.0);
        table.line(&what, &format!("{ours:.2} ms"), &format!("{disk:.2} ms"), ours, goal);
    }
}

/// One change of another domain's bundle to all streams, and what they cost in memory.
async fn bundle(table: &mut Table) {
    const ROUNDS: usize = 9;
    let server = ready().await;
    let roots: Vec<Ca> = (0..2).map(|_| Ca::new("partner", Some("spiffe://partner.test")).unwrap()).collect();
    let declare = |round: usize| {
        let pem = roots[round % 2].pem().replace('\n', "\n  ");
        let text =
            format!("kind: TrustDomain\ntrust_domain: partner.test\nbundle: |\n  {}\n", pem.trim_end());
        server.document("partner", &text);
    };
    declare(0);
    // Until it is served, so that the first answer of every stream has it.
    let sample = loop {
        let answer = Connection::open(&server.socket()).await.ask(&BUNDLES).await.next().await;
        if String::from_utf8_lossy(&answer).contains("spiffe://partner.test") {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut one = Fleet::open(&server.socket(), BUNDLES, 1, 1).await;
    let mut alone = Vec::new();
    for round in 1..=ROUNDS {
        let before = cpu::settled(server.pid()).await;
        declare(round);
        one.all_answered(round + 1).await;
        alone.push(us(cpu::settled(server.pid()).await - before));
    }
    one.close().await;
    let scratch = disk::directory();
    let mut floor = Floor::start(Kind::Loop, scratch.path(), &sample);
    let pids = [server.pid(), floor.pid()];
    cpu::settled(server.pid()).await;
    let empty = pids.map(cpu::resident);
    let mut ours = Fleet::open(&server.socket(), BUNDLES, STREAMS, 1000).await;
    let mut bare = Fleet::open(&floor.socket, BUNDLES, STREAMS, 1000).await;
    cpu::settled(server.pid()).await;
    let idle = pids.map(cpu::resident);
    let (mut walls, mut spent) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 1..=ROUNDS {
        let (before, start) = (cpu::settled(floor.pid()).await, Instant::now());
        floor.push();
        bare.all_answered(round + 1).await;
        walls[1].push(start.elapsed().as_secs_f64() * 1e3);
        spent[1].push(us(cpu::settled(floor.pid()).await - before));
        let (before, start) = (cpu::settled(server.pid()).await, Instant::now());
        declare(ROUNDS + round);
        ours.all_answered(round + 1).await;
        walls[0].push(start.elapsed().as_secs_f64() * 1e3);
        spent[0].push(us(cpu::settled(server.pid()).await - before));
        assert_eq!(ours.answers(), (round + 1) * STREAMS, "one change is one message a stream");
    }
    let pushed = pids.map(cpu::resident);
    let of = |what: &str| format!("{what}, {STREAMS} streams");
    let [figure, limit] = [&walls[0], &walls[1]].map(|walls| median(walls));
    let what = of("bundle edited → last stream has it : bare h2");
    table.line(&what, &format!("{figure:.0} ms"), &format!("{limit:.0} ms"), figure / limit, Goal::None);
    let each = |spent: f64| spent / STREAMS as f64;
    let (figure, limit) = (each(median(&spent[0]) - median(&alone)), each(median(&spent[1])));
    let what = of("… CPU a stream : bare h2");
    table.line(&what, &format!("{figure:.2} µs"), &format!("{limit:.2} µs"), figure / limit, Goal::None);
    for (what, after) in [("idle", idle), ("after changes", pushed)] {
        let a_stream = |n: usize| after[n].saturating_sub(empty[n]) as f64 / 1024.0 / STREAMS as f64;
        let [figure, limit] = [a_stream(0), a_stream(1)].map(|kb| format!("{kb:.2} KB"));
        let what = of(&format!("RSS a stream, {what} : bare h2"));
        table.line(&what, &figure, &limit, a_stream(0) / a_stream(1), Goal::None);
    }
}
