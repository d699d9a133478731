//! What an honest client waits for beside each kind of attack, against what it waits for beside a process that merely
//! burns as much CPU.
//!
//! `cargo bench -p integration --bench hostile`; `… -- requests resets silent crowd refusals callers caller-resets` names
//! the attacks that are to run. `… -- names`: whether a name of somebody else's is answered as soon as one that nobody has.
//! `COUNTERSIGN_BIN` names another binary.
//!
//! ```text
//! round: attack (processes of its own) ─► CPU of server and attackers a second = share ─► honest client's times
//!        then burners of that share    ───────────────────────────────────────────────► honest client's times
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

#[path = "hostile/attacks.rs"]
mod attacks;
mod common;

use std::time::{Duration, Instant};

use attacks::{Attack, Attackers, Burners};
use common::cpu;
use common::fleet;
use common::sds::{Ask, Connection};
use common::server::Server;
use common::stats::{median, percentile, us};
use common::table::{Goal, Table};

const ROUNDS: usize = 5;
const CONNECTS: usize = 200;
const PUSHES: usize = 20;
const NAMES: usize = 20_000;

fn main() {
    if attacks::run_if_asked() || !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut table =
            Table::new("hostile: an honest client beside an attack : beside burners of the same CPU");
        for attack in Attack::ALL {
            if common::wanted(attack.name()) {
                beside(&mut table, attack).await;
            }
        }
        if common::wanted("names") {
            names(&mut table).await;
        }
    });
}

/// An honest client's times, in µs.
#[derive(Default)]
struct Times {
    connect: Vec<f64>,
    push: Vec<f64>,
}

impl Times {
    /// Connects for its first secret again and again, with pauses, and has an entry of its own edited.
    async fn take(&mut self, server: &Server, edits: &mut usize) {
        for _ in 0..CONNECTS {
            let start = Instant::now();
            Connection::open(&server.socket()).await.subscribe("default").await.next().await;
            self.connect.push(us(start.elapsed()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut stream = Connection::open(&server.socket()).await.subscribe("default").await;
        stream.next().await;
        for _ in 0..PUSHES {
            tokio::time::sleep(Duration::from_millis(20)).await;
            *edits += 1;
            let start = Instant::now();
            server.entry("bench", rustix::process::getuid().as_raw(), &[format!("edit-{edits}.bench.test")]);
            stream.next().await;
            self.push.push(us(start.elapsed()));
        }
    }
}

/// How long names take that are not the caller's: one that another has, and one that there is not, in turns.
async fn names(table: &mut Table) {
    let server = Server::start();
    let uid = rustix::process::getuid().as_raw();
    server.entry("bench", uid, &[]);
    server.entry("bench-of-others", uid + 1, &[]);
    fleet::sample(&server.socket(), "default").await;
    let connection = Connection::open(&server.socket()).await;
    let names = ["spiffe://bench.test/bench-of-others", "spiffe://bench.test/bench-of-nobodys"];
    let asks = names.map(|name| Ask::Delta(vec![name.to_owned()]));
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..NAMES {
        for turn in [round % 2, (round + 1) % 2] {
            let start = Instant::now();
            connection.ask(&asks[turn]).await.next().await;
            times[turn].push(us(start.elapsed()));
        }
    }
    for (part, goal) in [(0.5, Goal::AtMost(1.05)), (0.99, Goal::None)] {
        let [others, nobodys] = times.each_ref().map(|times| percentile(times, part));
        let line = format!("names, another's : nobody's, p{}", part * 100.0);
        let micros = |value: f64| format!("{value:.1} µs");
        let ratio = (others / nobodys).max(nobodys / others);
        table.line(&line, &micros(others), &micros(nobodys), ratio, goal);
    }
}

async fn beside(table: &mut Table, attack: Attack) {
    let server = Server::start();
    let uid = rustix::process::getuid().as_raw();
    server.entry("bench", uid, &[]);
    fleet::sample(&server.socket(), "default").await;
    let (mut alone, mut attacked, mut burnt) = (Times::default(), Times::default(), Times::default());
    let (mut shares, mut edits) = (Vec::new(), 0);
    alone.take(&server, &mut edits).await;
    for _ in 0..ROUNDS {
        let attackers = Attackers::start(attack, &server.socket());
        let spent = |attackers: &Attackers| cpu::of(server.pid()) + attackers.cpu();
        let (start, before) = (Instant::now(), spent(&attackers));
        attacked.take(&server, &mut edits).await;
        let share = (spent(&attackers) - before).as_secs_f64() / start.elapsed().as_secs_f64();
        shares.push(share);
        drop(attackers);
        cpu::settled(server.pid()).await;
        let burners = Burners::start(share);
        burnt.take(&server, &mut edits).await;
        drop(burners);
    }
    let resident = cpu::resident(server.pid()) >> 20;
    println!("{}: {:.2} cores each, the server {resident} MiB afterwards", attack.name(), median(&shares));
    for (what, of) in [("connect → first secret", 0), ("entry edited → secret", 1)] {
        let [alone, attacked, burnt] =
            [&alone, &attacked, &burnt].map(|times| if of == 0 { &times.connect } else { &times.push });
        for (part, goal) in [(0.5, Goal::None), (0.99, Goal::AtMost(2.0))] {
            let [alone, attacked, burnt] =
                [alone, attacked, burnt].map(|times| percentile(times, part) / 1e3);
            let line = format!("{}, {what}, p{} (alone {alone:.2} ms)", attack.name(), part * 100.0);
            let millis = |value: f64| format!("{value:.2} ms");
            table.line(&line, &millis(attacked), &millis(burnt), attacked / burnt, goal);
        }
    }
}
