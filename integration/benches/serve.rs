//! The real `countersign` in release: first secret, one push to many streams, a crowd, a new entry.
//!
//! `cargo bench -p integration --bench serve`; `… -- first push crowd entry` names the parts that are to run
//! (also `push-1000`). `COUNTERSIGN_BIN` names another binary: an older one, or a profiler around this one.

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

use common::crowd::{self, Crowd};
use common::fleet::{self, Fleet};
use common::floor::{self, Floor, Kind};
use common::sds::Connection;
use common::server::Server;
use common::stats::{median, percentile, us};
use common::table::{Goal, Table};
use common::{cpu, disk};

fn main() {
    if floor::run_if_asked() || crowd::run_if_asked() || !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut table = Table::new("serve, the release binary over its Unix socket");
        if common::wanted("first") {
            first_secret(&mut table).await;
        }
        for (part, streams) in [("push-1000", 1000), ("push-10000", 10_000)] {
            if common::wanted("push") || common::wanted(part) {
                push(&mut table, streams).await;
            }
        }
        if common::wanted("crowd") {
            crowd(&mut table).await;
        }
        if common::wanted("entry") {
            new_entry(&mut table, 1).await;
            new_entry(&mut table, 4000).await;
        }
    });
}

/// A server with an entry for whoever runs this, whose SVID is ready.
async fn ready() -> Server {
    let server = Server::start();
    server.entry("bench", rustix::process::getuid().as_raw(), &[]);
    fleet::sample(&server.socket(), "default").await;
    server
}

/// From connecting to the first secret, against a call that is answered with nothing.
async fn first_secret(table: &mut Table) {
    let server = ready().await;
    let socket = server.socket();
    let (mut ours, mut empty) = (Vec::new(), Vec::new());
    for number in 0..2200 {
        let start = Instant::now();
        Connection::open(&socket).await.subscribe("default").await.next().await;
        let secret = us(start.elapsed());
        let start = Instant::now();
        Connection::open(&socket).await.call_nothing().await;
        let nothing = us(start.elapsed());
        if number >= 200 {
            ours.push(secret);
            empty.push(nothing);
        }
    }
    for (part, goal) in [(0.5, Goal::AtMost(2.0)), (0.99, Goal::None)] {
        let [ours, empty] = [&ours, &empty].map(|times| percentile(times, part));
        let what = format!("connect, first secret : empty call, p{}", part * 100.0);
        table.line(&what, &format!("{ours:.0} µs"), &format!("{empty:.0} µs"), ours / empty, goal);
    }
}

/// One rotated secret to `size` streams, each of which acknowledges it, and what the streams cost in memory.
async fn push(table: &mut Table, size: usize) {
    const ROUNDS: usize = 7;
    let uid = rustix::process::getuid().as_raw();
    let server = ready().await;
    let edit = |round: usize| server.entry("bench", uid, &[format!("edit-{round}.bench.test")]);
    let edit_alone = edit_cost(&server, &edit).await;
    let (frame, _) = fleet::sample(&server.socket(), "default").await;
    let scratch = disk::directory();
    let mut floors = [Kind::Loop, Kind::Woken].map(|kind| Floor::start(kind, scratch.path(), &frame));
    let pids = [server.pid(), floors[0].pid()];
    let empty = pids.map(cpu::resident);
    let mut ours = Fleet::open(&server.socket(), "default", size, 1000).await;
    let mut bare = Vec::new();
    for floor in &floors {
        bare.push(Fleet::open(&floor.socket, "default", size, 1000).await);
    }
    cpu::settled(server.pid()).await;
    let idle = pids.map(cpu::resident);
    let (mut spent, mut walls) = ([Vec::new(), Vec::new(), Vec::new()], Vec::new());
    for round in 0..ROUNDS {
        for (floor, (fleet, spent)) in floors.iter_mut().zip(bare.iter_mut().zip(&mut spent[1..])) {
            let before = cpu::settled(floor.pid()).await;
            floor.push();
            fleet.all_answered(round + 2).await;
            spent.push(us(cpu::settled(floor.pid()).await - before) / size as f64);
        }
        let before = cpu::settled(server.pid()).await;
        let start = Instant::now();
        edit(100 + round);
        ours.all_answered(round + 2).await;
        walls.push(start.elapsed().as_secs_f64() * 1e3);
        spent[0].push(us(cpu::settled(server.pid()).await - before) / size as f64);
        assert_eq!(ours.answers(), (round + 2) * size, "one push is one message a stream");
    }
    let pushed = pids.map(cpu::resident);
    let of = |what: &str| format!("{what}, {size} streams");
    let micros = |value: f64| format!("{value:.2} µs");
    // The edit is not the push: a scan, two records, a key and a signature, once for all streams.
    let edit = edit_alone / size as f64;
    let [gross, floor, woken] = spent.map(|spent| median(&spent));
    let net = gross - edit;
    for (what, figure, limit, goal) in [
        ("push + ACK, CPU : bare h2", net, floor, Goal::AtMost(1.3)),
        ("… : bare h2, each stream woken", net, woken, Goal::None),
        ("… with the edit itself : bare h2", gross, floor, Goal::None),
    ] {
        table.line(&of(what), &micros(figure), &micros(limit), figure / limit, goal);
    }
    let wall = format!("{:.0} ms", median(&walls));
    table.line(&of("entry edited → last ACK, wall"), &wall, "", f64::NAN, Goal::None);
    for (what, after) in [("idle", idle), ("after pushes", pushed)] {
        let a_stream = |n: usize| (after[n].saturating_sub(empty[n])) as f64 / 1024.0 / size as f64;
        let [figure, limit] = [a_stream(0), a_stream(1)].map(|kb| format!("{kb:.2} KB"));
        // The goal is about the figure itself.
        let what = of(&format!("RSS a stream, {what} : bare h2"));
        table.line(&what, &figure, &limit, a_stream(0), Goal::AtMost(4.0));
    }
    ours.close().await;
    for fleet in bare {
        fleet.close().await;
    }
}

/// CPU of an edit that one stream sees: reading the directory, the store, a key, a signature. µs.
async fn edit_cost(server: &Server, edit: &impl Fn(usize)) -> f64 {
    let mut one = Fleet::open(&server.socket(), "default", 1, 1).await;
    let mut costs = Vec::new();
    for round in 0..7 {
        let before = cpu::settled(server.pid()).await;
        edit(round);
        one.all_answered(round + 2).await;
        costs.push(us(cpu::settled(server.pid()).await - before));
    }
    one.close().await;
    median(&costs)
}

/// Ten thousand clients at once, each on a connection of its own: half of them in each of two processes.
async fn crowd(table: &mut Table) {
    const CLIENTS: usize = 10_000;
    let server = ready().await;
    let (frame, _) = fleet::sample(&server.socket(), "default").await;
    let scratch = disk::directory();
    let floor = Floor::start(Kind::Loop, scratch.path(), &frame);
    let run = async |socket: &Path, pid| {
        let mut crowds = [(); 2].map(|()| Crowd::start(socket, CLIENTS / 2));
        let before = cpu::settled(pid).await;
        crowds.iter_mut().for_each(Crowd::go);
        let answers: Vec<f64> = crowds.iter_mut().flat_map(Crowd::answers).collect();
        (answers, us(cpu::settled(pid).await - before))
    };
    let (bare, bare_cpu) = run(&floor.socket, floor.pid()).await;
    let (ours, ours_cpu) = run(&server.socket(), server.pid()).await;
    let answered = |answers: &[f64]| format!("{} answered", answers.len());
    let what = format!("{CLIENTS} clients connect at once : bare h2");
    table.line(
        &what,
        &answered(&ours),
        &answered(&bare),
        ours.len() as f64 / CLIENTS as f64,
        Goal::AtLeast(1.0),
    );
    for part in [0.5, 0.99, 1.0] {
        let [ours, bare] = [&ours, &bare].map(|answers| percentile(answers, part));
        let what = format!("… their secret after, p{} : bare h2", part * 100.0);
        table.line(&what, &format!("{ours:.0} ms"), &format!("{bare:.0} ms"), ours / bare, Goal::None);
    }
    let [ours, bare] = [ours_cpu, bare_cpu].map(|spent| format!("{:.0} µs", spent / CLIENTS as f64));
    table.line("… CPU a client : bare h2", &ours, &bare, ours_cpu / bare_cpu, Goal::None);
}

/// From an entry's file to its secret on a stream that waits for it, beside `others` entries of somebody else.
async fn new_entry(table: &mut Table, others: usize) {
    const ROUNDS: usize = 220;
    let server = Server::start();
    server.others(others);
    tokio::time::sleep(Duration::from_secs(2)).await; // or it would be taken in with the next one
    let uid = rustix::process::getuid().as_raw();
    let connection = Connection::open(&server.socket()).await;
    let mut scratch = disk::Scratch::new(server.directory());
    let (mut ours, mut disk) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        let name = format!("late/{number}");
        let mut stream = connection.subscribe(&format!("spiffe://bench.test/{name}")).await;
        tokio::time::sleep(Duration::from_millis(5)).await; // the server has heard it
        let start = Instant::now();
        scratch.sync(3);
        disk.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        server.entry(&name, uid, &[]);
        stream.next().await;
        ours.push(start.elapsed().as_secs_f64() * 1e3);
        // Entries are taken away again where that is less than a tenth of all in a minute: the brake on
        // removals would hold what comes after, too.
        if others >= 10 * ROUNDS {
            server.remove_entry(&name);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for (part, goal) in [(0.5, Goal::AtMost(5.0)), (0.99, Goal::None)] {
        let [ours, disk] = [&ours, &disk].map(|times| percentile(&times[20..], part));
        let what = format!("entry file → secret, {others} others : 3 fsyncs, p{}", part * 100.0);
        table.line(&what, &format!("{ours:.2} ms"), &format!("{disk:.2} ms"), ours, goal);
    }
}
